"""A small noisy image and a spoken word of the same digit, by an unknown speaker: is one answer better than two?

    python benchmarks/image_and_sound.py --data DIR

MNIST is shrunk to 7 x 7 with noise of 0.25; the sound is a recording of the same digit, of which five speakers train
and solve (each predicted by models that have not heard them) and the sixth, theo, judges. Every alternative is also
asked with the images alone and with the sounds alone. DIR has mnist and free-spoken-digits.
"""

from __future__ import annotations

import argparse
import warnings
import wave
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct
from scipy.signal import resample, stft
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from quorate.tuning import Labelled, Outputs, choose, idx_images

UNSEEN, RATE, SPEEDS = "theo", 8000, (1.0, 0.85, 0.92, 1.08, 1.16, 1.25)
Rows = NDArray[np.float64]

IMAGE: dict[str, Any] = {
    "image-logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, C=0.1)),
    "image-perceptron": make_pipeline(StandardScaler(), MLPClassifier((128,), early_stopping=True, random_state=0)),
}
SOUND: dict[str, Any] = {
    "sound-logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, C=0.01)),
    "sound-svm": make_pipeline(StandardScaler(), SVC(C=10, gamma=0.001, probability=True, random_state=0)),
    "sound-perceptron": make_pipeline(StandardScaler(), MLPClassifier((128,), max_iter=30, alpha=3, random_state=0)),
}


def filters(count: int = 26, size: int = 256) -> Rows:
    """Triangles on the mel scale, (count, size / 2 + 1)."""
    low, high = (2595 * float(np.log10(1 + hertz / 700)) for hertz in (80, RATE / 2))
    mels = np.linspace(low, high, count + 2)
    bins = np.floor((size + 1) * 700 * (10 ** (mels / 2595) - 1) / RATE).astype(int)
    at = np.arange(size // 2 + 1)
    found = []
    for start, top, end in zip(bins, bins[1:], bins[2:], strict=False):
        top, end = max(top, start + 1), max(end, top + 1, start + 2)
        found.append(np.clip(np.minimum((at - start) / (top - start), (end - at) / (end - top)), 0, None))
    return np.array(found)


FILTERS = filters()


def cepstra(sound: Rows) -> Rows:
    """Mel-frequency cepstra of what is loud, and their slopes, at twelve moments; and how long it is."""
    sharp = np.append(sound[0], sound[1:] - 0.95 * sound[:-1])
    _, _, waves = stft(sharp, RATE, nperseg=200, noverlap=120, nfft=256)
    found = dct(np.log(FILTERS @ np.abs(waves) ** 2 + 1e-10), axis=0, norm="ortho")[:14]
    loud = found[0]
    kept = np.flatnonzero(loud > loud.max() - 0.35 * (loud.max() - loud.min()) - 8)
    found = found[:, kept[0] : kept[-1] + 1]
    slopes = np.gradient(found, axis=1) if found.shape[1] > 2 else np.zeros_like(found)
    found[0] -= found[0].max()
    both = np.concatenate([found, slopes])
    moments = np.linspace(0, both.shape[1] - 1, 12)
    spread = [np.interp(moments, np.arange(both.shape[1]), row) for row in both]
    return np.append(np.concatenate(spread), both.shape[1] / 10)


def read(folder: Path) -> tuple[Rows, NDArray[np.int64], NDArray[Any]]:
    """(N, speeds, features) of every recording, its digit and its speaker; faster and slower is another voice."""
    files = sorted((folder / "recordings").glob("*.wav"))
    digit, speaker = zip(*(file.stem.split("_")[:2] for file in files), strict=True)
    found = []
    for file in files:
        with wave.open(str(file)) as frames:
            sound = np.frombuffer(frames.readframes(frames.getnframes()), np.int16) / 32768
        found.append([cepstra(resample(sound, int(len(sound) * speed)) if speed != 1 else sound) for speed in SPEEDS])
    return np.array(found), np.array(digit).astype(np.int64), np.array(speaker)


def images(part: Labelled, digits: NDArray[np.int64], random: np.random.Generator) -> Rows:
    """(N, 49) an image of each digit, shrunk, with noise."""
    by_digit = [np.flatnonzero(part.labels == digit) for digit in range(10)]
    drawn = part.inputs["image"][[random.choice(by_digit[digit]) for digit in digits]]
    small = drawn.reshape(-1, 7, 4, 7, 4).mean(axis=(2, 4)).reshape(len(digits), 49)
    return np.asarray(small + random.normal(0, 0.25, small.shape))


def heard(member: Any, sounds: Rows, digit: NDArray[np.int64]) -> Any:
    """The member, trained on all speeds."""
    return clone(member).fit(sounds.reshape(-1, sounds.shape[2]), np.repeat(digit, sounds.shape[1]))


def predicted(data: Path) -> tuple[Outputs, Outputs]:
    random = np.random.default_rng(0)
    sounds, digit, speaker = read(data / "free-spoken-digits")
    splits = idx_images(data / "mnist", full=True)
    seen = speaker != UNSEEN
    pairs = images(splits.train, digit[seen], random), images(splits.test, digit[~seen], random)
    many = np.repeat(np.arange(10), 2000)
    pixels = images(splits.train, many, random)
    solve, judge = [], []
    for member in IMAGE.values():
        member.fit(pixels, many)
        solve.append(member.predict_proba(pairs[0]))
        judge.append(member.predict_proba(pairs[1]))
    for member in SOUND.values():
        out = np.zeros((seen.sum(), 10))
        for others, own in GroupKFold(5).split(sounds[seen], digit[seen], speaker[seen]):
            model = heard(member, sounds[seen][others], digit[seen][others])
            out[own] = model.predict_proba(sounds[seen][own, 0])
        solve.append(out)
        judge.append(heard(member, sounds[seen], digit[seen]).predict_proba(sounds[~seen, 0]))
    names = (*IMAGE, *SOUND)
    return (
        Outputs(names, np.array(solve, dtype=np.float32), digit[seen], groups=speaker[seen]),
        Outputs(names, np.array(judge, dtype=np.float32), digit[~seen]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")  # scikit-learn's, about steps
    solve, judge = predicted(arguments.data)
    choice = choose(solve, judge, pool=False)
    lefts: Mapping[str, tuple[str, ...] | None] = {"both": None, "image": tuple(IMAGE), "sound": tuple(SOUND)}
    print(f"{'accuracy of':20} {'both':>8} {'image':>8} {'sound':>8}   log-loss")
    for name, recipe in choice.recipes.items():
        shares = []
        for left in lefts.values():
            if left is not None and not set(left) & set(recipe.asked):
                shares.append("")
                continue
            right = recipe.fuse(judge.names, judge.probs, left).argmax(axis=1) == judge.labels
            shares.append(f"{right.mean():.4f}")
        print(f"{name:20} {shares[0]:>8} {shares[1]:>8} {shares[2]:>8}   {choice.alternatives[name].value:.4f}")
    print(choice.verdict)


if __name__ == "__main__":
    main()

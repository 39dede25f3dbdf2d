"""Is a fusion of taggers worth more than the best of them? Span F1 on WNUT-17, with light taggers trained here.

    python benchmarks/tagging.py --data DIR [--out FILE]

Five taggers by scikit-learn, each with features of its own, are trained on the training sentences. They predict the
development and the test sentences; on a table of these ``quorate.tune`` fits every alternative on the former and judges
it on the latter, as it does from the command line:

    quorate tune --predictions FILE --metric span_f1

The folder has no predictions of the shared task's systems, so no published vote is reproduced.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction import FeatureHasher
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import MultinomialNB

import quorate

Sentence = list[tuple[str, str]]
FILES = {"train": "wnut17train.conll", "solve": "emerging.dev.conll", "judge": "emerging.test.annotated"}
BUCKETS = 1 << 18


class Tagger(NamedTuple):
    """What a tagger sees of a token, and how it learns."""

    features: tuple[Callable[[list[str], int], Iterator[str]], ...]
    model: Any


def shape_of(word: str) -> str:
    """Aa0-: runs of capitals, small letters, digits and others, each once."""
    kinds = ["A" if c.isupper() else "a" if c.islower() else "0" if c.isdigit() else "-" for c in word]
    return "".join(k for place, k in enumerate(kinds) if not place or kinds[place - 1] != k)


def at(words: list[str], place: int) -> str:
    return words[place] if 0 <= place < len(words) else "<>"


def word_window(words: list[str], place: int) -> Iterator[str]:
    for offset in range(-2, 3):
        yield f"w{offset}={at(words, place + offset).lower()}"
    yield f"pair={at(words, place - 1).lower()} {words[place].lower()}"
    yield f"next={words[place].lower()} {at(words, place + 1).lower()}"


def shapes(words: list[str], place: int) -> Iterator[str]:
    for offset in (-1, 0, 1):
        yield f"s{offset}={shape_of(at(words, place + offset))}"
    yield f"s3={shape_of(at(words, place - 1))} {shape_of(words[place])} {shape_of(at(words, place + 1))}"
    yield f"first={place == 0} {words[place][:1].isupper()}"


def affixes(words: list[str], place: int) -> Iterator[str]:
    word = words[place].lower()
    for size in range(1, 5):
        yield f"start={word[:size]}"
        yield f"end={word[-size:]}"


def letters(words: list[str], place: int) -> Iterator[str]:
    word = f"<{words[place]}>"
    for size in range(2, 6):
        for start in range(len(word) - size + 1):
            yield word[start : start + size]
    for offset in (-1, 1):
        yield f"{offset}{at(words, place + offset).lower()[-3:]}"


def regression() -> Any:
    return LogisticRegression(C=10, max_iter=60, tol=1e-6)


TAGGERS = {
    "forms": Tagger((shapes, affixes), regression()),
    "letters": Tagger((letters, shapes), regression()),
    "all": Tagger((word_window, shapes, affixes), regression()),
    "margins": Tagger(
        (word_window, shapes, affixes),
        SGDClassifier(
            "modified_huber", alpha=1e-5, max_iter=20, tol=None, average=True, learning_rate="constant", eta0=0.01,
            random_state=0,
        ),
    ),
    "bayes": Tagger((word_window, shapes, affixes), MultinomialNB(alpha=0.05)),
}  # fmt: skip


def sentences(path: Path) -> list[Sentence]:
    """Tokens with their tags; a line without a token ends a sentence."""
    found: list[Sentence] = [[]]
    for line in path.read_text(encoding="utf-8").splitlines():
        token, _, tag = line.partition("\t")
        if token.strip():
            found[-1].append((token, tag.strip()))
        elif found[-1]:
            found.append([])
    return [sentence for sentence in found if sentence]


def seen(tagger: Tagger, data: list[Sentence]) -> Any:
    """(tokens, BUCKETS) sparse."""
    texts = [[word for word, _ in sentence] for sentence in data]
    rows = [
        [one for look in tagger.features for one in look(words, place)]
        for words in texts
        for place in range(len(words))
    ]
    return FeatureHasher(BUCKETS, input_type="string", alternate_sign=False).transform(rows)


def predicted(folder: Path) -> pd.DataFrame:
    """One row a token of the development and test sentences: what ``quorate tune --predictions`` reads."""
    data = {part: sentences(folder / file) for part, file in FILES.items()}
    judged = [part for part in data if part != "train"]
    tags = {part: np.array([tag for sentence in data[part] for _, tag in sentence]) for part in data}
    lengths = [len(sentence) for part in judged for sentence in data[part]]
    table = {
        "sequence": np.repeat(np.arange(len(lengths)), lengths),
        "split": np.repeat(judged, [len(tags[part]) for part in judged]),
        "label": np.concatenate([tags[part] for part in judged]),
    }
    for name, tagger in TAGGERS.items():
        started = time.perf_counter()
        model = tagger.model.fit(seen(tagger, data["train"]), tags["train"])
        said = np.concatenate([model.predict_proba(seen(tagger, data[part])) for part in judged])
        said = np.nan_to_num(said, nan=1 / said.shape[1])  # modified Huber may give a row nothing at all
        table |= {f"{name}/{tag}": said[:, column] for column, tag in enumerate(model.classes_)}
        print(f"{name}: trained in {time.perf_counter() - started:.0f} s", flush=True)
    return pd.DataFrame(table)


def main() -> None:
    warnings.simplefilter("ignore", ConvergenceWarning)  # more iterations find nothing that matters here
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds wnut17")
    parser.add_argument("--out", type=Path, help="where the table of predictions is written")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        file = arguments.out or Path(place) / "wnut17.parquet"
        predicted(arguments.data / "wnut17").to_parquet(file)
        started = time.perf_counter()
        result = quorate.tune(predictions=file, metric="span_f1", runs=Path(place))
        print(f"tuned in {time.perf_counter() - started:.0f} s", flush=True)
        print(result, flush=True)


if __name__ == "__main__":
    main()

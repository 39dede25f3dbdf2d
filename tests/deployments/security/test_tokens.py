"""Files of tokens, and doors that may not be open to the network by accident."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import pytest

from quorate.deployments import Credentials, Doors
from quorate.deployments.errors import CredentialError, DeployError, ExposureError, ForbiddenError, UnauthenticatedError
from quorate.deployments.security.access import Doorkeeper, Level
from quorate.deployments.security.certificates import Tls
from quorate.deployments.security.doors import doors_from_files, is_loopback
from quorate.deployments.security.tokens import read_tokens

ONE, TWO = "a" * 16 + "-._~+/0123456789==", "b" * 64


def secret(folder: Path, text: str, mode=0o600) -> Path:
    path = folder / "tokens"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_file_holds_one_token_a_line(tmp_path):
    path = secret(tmp_path, f"# the old one goes on Friday\n{ONE}\n\n  {TWO}  \n")
    assert read_tokens(path) == (ONE, TWO)
    assert Credentials.from_files(path).headers == {"authorization": f"Bearer {ONE}"}


@pytest.mark.parametrize(
    ("text", "mode", "sentence"),
    [
        (TWO, 0o644, "open to every user of this machine (mode 644); run: chmod 600"),
        (TWO, 0o602, "open to every user"),
        (TWO, 0o620, "open to whoever is in its group (mode 620); run: chmod 600"),
        ("", 0o600, "holds no token; make one with"),
        ("# nothing\n", 0o600, "holds no token"),
        (f"{ONE}\nhunter2\n", 0o600, "the token in line 2 is shorter than 32 characters"),
        (f"{'correct horse battery staple ' * 2}", 0o600, "line 1 is no token"),
        ("ü" * 40, 0o600, "line 1 is no token"),
    ],
)
def test_a_file_that_is_not_safe_to_use_is_refused_without_saying_what_is_in_it(tmp_path, text, mode, sentence):
    path = secret(tmp_path, text, mode)
    with pytest.raises(CredentialError) as error:
        read_tokens(path)
    assert sentence in str(error.value)
    assert str(path) in str(error.value)
    assert not any(word in str(error.value) for word in ("hunter2", "horse", ONE, TWO, "ü"))
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


def test_tokens_may_stand_in_the_environment_in_place_of_a_file(monkeypatch):
    monkeypatch.setenv("MY_TOKENS", f"{ONE}\n{TWO}")
    doors = doors_from_files(auth_token_file=Path("env:MY_TOKENS"))
    assert doors.ask_tokens == tuple(hashlib.sha256(token.encode()).hexdigest() for token in (ONE, TWO))
    assert Credentials.from_files(Path("env:MY_TOKENS")).token == ONE
    monkeypatch.setenv("MY_TOKENS", "hunter2")
    for name, sentence in (("MY_TOKENS", "line 1 is shorter than 32"), ("NONE", "env:NONE: is not set; export NONE")):
        with pytest.raises(CredentialError, match=sentence) as error:
            read_tokens(Path(f"env:{name}"))
        assert "hunter2" not in str(error.value)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(CredentialError, match="cannot be read"):
        doors_from_files(auth_token_file=tmp_path / "nothing")


def test_only_digests_are_kept(tmp_path):
    doors = doors_from_files("0.0.0.0", secret(tmp_path, f"{ONE}\n{TWO}"), tmp_path / "tokens")
    assert doors.ask_tokens == tuple(hashlib.sha256(token.encode()).hexdigest() for token in (ONE, TWO))
    for text in (repr(doors), repr(pickle.dumps(doors)), repr(Credentials(ONE)), repr(Credentials(TWO))):
        assert ONE not in text
        assert TWO not in text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "8.8.8.8"])
def test_doors_that_others_reach_want_tokens_or_the_word(host):
    with pytest.raises(ExposureError, match=r"--auth-token-file FILE, or --insecure") as error:
        Doors(host)
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)
    assert "may ask" in Doors(host, insecure=True).warning
    assert "in clear" in Doors(host, ("digest",)).warning
    assert not Doors(host, ("digest",), tls=Tls("cert", "key")).warning
    with pytest.raises(ExposureError):
        Doors(host, management_tokens=("digest",))


def test_loopback_wants_nothing():
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        assert is_loopback(host)
        assert not Doors(host).warning
    with pytest.raises(DeployError, match="is no address"):
        is_loopback("no such host")


def test_options_that_do_not_go_together_are_refused(tmp_path):
    one_alone: list[dict[str, Any]] = [{name: Path("c")} for name in ("tls_cert", "tls_key", "tls_client_ca")]
    for files in one_alone:
        with pytest.raises(DeployError, match="both --tls-cert and --tls-key"):
            doors_from_files(**files)
    with pytest.raises(DeployError, match="give one of them"):
        doors_from_files("0.0.0.0", secret(tmp_path, ONE), insecure=True)


def digests(*tokens):
    return tuple(hashlib.sha256(token.encode()).hexdigest() for token in tokens)


@pytest.mark.parametrize(
    ("doors", "nothing", "wrong", "ask", "manage"),
    [  # the highest level that each token reaches
        (Doors(), Level.MANAGE, Level.MANAGE, Level.MANAGE, Level.MANAGE),
        (Doors(ask_tokens=digests(ONE)), Level.OPEN, Level.OPEN, Level.ASK, Level.OPEN),
        (Doors(management_tokens=digests(TWO)), Level.ASK, Level.ASK, Level.ASK, Level.MANAGE),
        (Doors("0.0.0.0", digests(ONE), digests(TWO)), Level.OPEN, Level.OPEN, Level.ASK, Level.MANAGE),
        (Doors("0.0.0.0", insecure=True), Level.ASK, Level.ASK, Level.ASK, Level.ASK),
        (Doors("0.0.0.0", (), digests(TWO), None, True), Level.ASK, Level.ASK, Level.ASK, Level.MANAGE),
    ],
    ids=["loopback", "ask only", "manage only", "both", "insecure", "insecure, managed"],
)
def test_a_token_reaches_its_level_and_no_further(doors, nothing, wrong, ask, manage):
    keeper = Doorkeeper(doors)
    tried = {"": nothing, f"Bearer {ONE[:-1]}": wrong, f"bearer {ONE}": ask, f"Bearer {TWO}": manage}
    tried |= {ONE: nothing, f"Basic {ONE}": nothing, "Bearer": nothing, "Bearer ": nothing}
    for authorization, reached in tried.items():
        for level in Level:
            if level <= reached:
                keeper.check(level, authorization)
            else:
                with pytest.raises((UnauthenticatedError, ForbiddenError)) as error:
                    keeper.check(level, authorization)
                assert ONE[:-1] not in str(error.value)


def test_tokens_change_while_the_door_is_open():
    keeper = Doorkeeper(Doors(ask_tokens=digests(ONE)))
    keeper.check(Level.ASK, f"Bearer {ONE}")
    keeper.change(Doors(ask_tokens=digests(TWO)))
    keeper.check(Level.ASK, f"Bearer {TWO}")
    with pytest.raises(UnauthenticatedError, match="none of this server's"):
        keeper.check(Level.ASK, f"Bearer {ONE}")


def test_a_replica_that_others_reach_never_opens_for_what_was_meant_for_loopback():
    with pytest.raises(UnauthenticatedError):
        Doorkeeper(Doors(), host="0.0.0.0").check(Level.ASK, "")


def test_the_mode_is_that_of_the_file_that_was_opened_and_not_of_what_stands_at_its_path_later(tmp_path, monkeypatch):
    path, private = tmp_path / "tokens", tmp_path / "private"
    for file, mode in ((path, 0o644), (private, 0o600)):
        file.write_text(TWO)
        file.chmod(mode)
    opened = type(path).open

    def then_replaced(self, *arguments):
        file = opened(self, *arguments)
        private.replace(path)
        return file

    monkeypatch.setattr(type(path), "open", then_replaced)
    with pytest.raises(CredentialError, match="open to every user"):
        read_tokens(path)

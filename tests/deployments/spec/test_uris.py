"""Folders by their URIs: their options stay where they are, and credentials are refused."""

import pytest
from pyarrow.fs import FileSystem

from quorate.deployments import parse_spec
from quorate.deployments.errors import SpecError
from quorate.deployments.spec.uris import inside
from tests.deployments.support.known_answers import two_known

MINIO = "s3://bucket/record/?endpoint_override=127.0.0.1%3A9000&scheme=http&region=us-east-1"


def test_an_ensembles_folder_is_in_the_path_of_a_uri_and_not_in_its_options():
    system, folder = FileSystem.from_uri(inside(MINIO, "digits"))
    assert folder == "bucket/record/digits"
    assert system.equals(FileSystem.from_uri(MINIO)[0])
    assert inside("/var/lib/what?/", "digits") == "/var/lib/what?/digits"


@pytest.mark.parametrize("folder", ["s3://AKIA:hush@bucket/record", "s3://bucket/record?secret_key=hush"])
def test_a_record_whose_place_holds_credentials_is_refused_without_repeating_them(folder):
    with pytest.raises(SpecError, match=r"s3://\.\.\. has credentials in it") as refused:
        parse_spec({**two_known("kept", 0.5), "record": {"folder": folder}})
    assert "hush" not in str(refused.value)

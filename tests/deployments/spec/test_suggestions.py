"""What an unknown word was probably meant to be."""

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.deployments.spec.suggestions import suggest, suggest_key


def test_the_closest_known_word_is_proposed_and_without_one_all_are_listed():
    assert suggest("maen", ("median", "mean")) == "did you mean 'mean'?"
    assert suggest("xyz", ("median", "mean")) == "choose from mean, median"


def test_a_key_is_looked_for_among_the_fields_of_its_own_place():
    assert suggest_key(EnsembleSpec, ["members", "cnn", "resources", "num_gpu"]) == "did you mean 'num_gpus'?"
    assert suggest_key(EnsembleSpec, ["fusions", "first", "deadline"]) == "did you mean 'deadline_s'?"
    assert suggest_key(EnsembleSpec, ["inputs", "x", "zzz"]) == "remove it; known here: datatype, shape, example"

import subprocess
import sys

import pytest

from seglib.errors import SeglibError, UnknownName, unknown_name


@pytest.mark.parametrize("given", ["mout", "MOUTH", "muoth", " mouth"])
def test_a_near_name_is_suggested(given):
    error = unknown_name("region", given, ["nose", "mouth"])
    assert repr(given) in str(error)
    assert "did you mean 'mouth'?" in str(error)
    assert str(error).endswith("Known: nose, mouth")


def test_a_far_name_gets_the_list_and_no_guess():
    message = str(unknown_name("region", "zzz", iter(["nose", "mouth"])))
    assert message == "unknown region 'zzz'. Known: nose, mouth"


def test_other_types_and_no_choices_still_make_a_message():
    assert str(unknown_name("layer", None, [])) == "unknown layer None. Known: (none)"


def test_an_unknown_name_is_a_value_error_too():
    assert issubclass(UnknownName, SeglibError)
    assert issubclass(UnknownName, ValueError)


@pytest.mark.parametrize("module", ["seglib", "seglib.cli"])
def test_importing_stays_light(module):
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert module in loaded
    assert not {"torch", "transformers", "torchvision", "onnx", "sklearn", "cv2"} & set(loaded)

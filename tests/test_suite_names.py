from __future__ import annotations

from pathlib import Path

import pytest

from tests.suite_names import NAMES, PRODUCT, ROOT, findings, main, named


def test_the_product_names_no_suite() -> None:
    assert list(findings(ROOT)) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_found_however_it_is_written(name: str) -> None:
    words = name.split()
    for written in (name, name.upper(), "-".join(words), "_".join(words), words[0] + "".join(word.title() for word in words[1:])):
        assert named(f'if service.name == "{written}":') == [written]
        assert named(f"{written}-service") != []


@pytest.mark.parametrize(
    "text", ["a social worker on the network", "the demo", "information in the book", "trains", "a hotel", "webshops2"]
)
def test_ordinary_words_pass(text: str) -> None:
    assert named(text) == []


@pytest.mark.parametrize("package", PRODUCT)
def test_the_check_fails_on_a_name_in_a_text_and_in_a_file_name(tmp_path: Path, package: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / package / "detectors"
    folder.mkdir(parents=True)
    (folder / "services.py").write_text("APPS = {'hotel-reservation'}\n", "utf-8")
    assert main(tmp_path) == 1
    assert f"{package}/detectors/services.py:1: 'hotel-reservation'" in capsys.readouterr().err
    (folder / "services.py").rename(folder / "sock_shop.yaml")
    (folder / "sock_shop.yaml").write_text("", "utf-8")
    assert main(tmp_path) == 1
    (folder / "sock_shop.yaml").unlink()
    assert main(tmp_path) == 0

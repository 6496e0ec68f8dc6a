"""The page of a new project, in a real browser: by mouse and by keyboard, wide and narrow, light and dark."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mlscaffold.catalogue.questions import Question, plain, read
from mlscaffold.web import engine
from tests.support.releases import ROOT
from tests.support.web import Web, web
from tests.tool.test_web import tree, typed, unzipped

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if not CHROMIUM and "CI" not in os.environ:
    pytest.skip("chromium is not installed; .ci/run does that", allow_module_level=True)

from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright  # noqa: E402

CATALOGUE = read(ROOT)
CHOICES = [question for question in CATALOGUE.questions if question.choices]
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
WIDE, PHONE = ViewportSize(width=1440, height=900), ViewportSize(width=390, height=844)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with web(tmp_path_factory.mktemp("web")) as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


Open = Callable[..., Page]


@pytest.fixture
def show(browser: Browser, server: Web) -> Iterator[Open]:
    """Open the page, in a window of its own; nothing may ask another host, or be said on the console."""
    contexts = []
    hosts: set[str] = set()
    said: list[str] = []

    def open_page(link: str = "", *, address: str = server.address, phone: bool = False, **how: Any) -> Page:
        context = browser.new_context(viewport=PHONE if phone else WIDE, **how)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(address + (f"&{link}" if link else ""))
        expect(page.locator("#command")).not_to_be_empty()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert hosts <= {f"127.0.0.1:{server.port}", ""}  # what is saved has no host
    assert [text for text in said if "Failed to load resource" not in text] == []  # what is refused is told


OTHER_TASK = "task=image-generation"  # for a choice that is closed to the default one


def choice(page: Page, question: Question, value: str) -> Any:
    return page.locator(f"#question-{question.name} input[value='{value}']")


def answer_in_picture(page: Page, question: Question) -> Any:
    return page.locator(f"[data-part='{question.name}'] .answer")


def short(label: str) -> str:
    return label.partition(" (")[0]


def test_every_choice_is_taken_by_mouse_and_shown_in_the_picture(show: Open) -> None:
    taken = take_all(show(OTHER_TASK), [question for question in CHOICES if question.name != "task"])
    page = show()
    taken |= take_all(page, CHOICES)
    assert "--loggers mlflow,wandb --launch slurm" in page.locator("#command").inner_text()
    assert taken == {(q.name, plain(each.value)) for q in CHOICES for each in q.choices}


def take_all(page: Page, questions: list[Question]) -> set[tuple[str, str]]:
    """Click on each choice that is not closed, and see it in the picture."""
    taken = set()
    for question in questions:
        for each in reversed(question.choices):
            value = plain(each.value)
            if not choice(page, question, value).is_enabled():
                continue
            taken.add((question.name, value))
            before = choice(page, question, value).is_checked()
            choice(page, question, value).click()
            picture = expect(answer_in_picture(page, question))
            if not question.multiselect:
                picture.to_have_text(short(each.label))
            elif before:
                picture.not_to_contain_text(short(each.label))
            else:
                picture.to_contain_text(short(each.label))
    return taken


def focused(page: Page) -> dict[str, str]:
    """What has the focus: its id, name, value and the part of the picture that it is."""
    script = """() => {
        const {id, name, value, type, dataset, tagName} = document.activeElement;
        return {id, name, value, type, part: dataset.part ?? "", tag: tagName};
    }"""
    found: dict[str, str] = page.evaluate(script)
    return found


def test_every_choice_is_taken_by_keyboard_alone(show: Open) -> None:
    page = show()
    parts, taken = set(), set()
    seen: list[dict[str, str]] = []
    for _ in range(150):
        page.keyboard.press("Tab")
        here = focused(page)
        if here["tag"] == "BODY":
            break
        seen.append(here)
        parts.add(here["part"])
        if here["type"] == "radio":
            choices = CATALOGUE[here["name"]].choices
            for _ in choices:
                page.keyboard.press("ArrowDown")
                taken.add((here["name"], focused(page)["value"]))
                expect(answer_in_picture(page, CATALOGUE[here["name"]])).to_have_text(
                    next(short(c.label) for c in choices if plain(c.value) == focused(page)["value"])
                )
        elif here["type"] == "checkbox":
            checked = page.locator("*:focus").is_checked()
            page.keyboard.press("Space")
            expect(page.locator("*:focus")).to_be_checked(checked=not checked)
            taken.add((here["name"], here["value"]))
            page.keyboard.press("Space")
    other = show(OTHER_TASK)
    while focused(other)["name"] != "generator":
        other.keyboard.press("Tab")
    other.keyboard.press("ArrowDown")
    taken.add(("generator", focused(other)["value"]))
    assert taken == {(question.name, plain(c.value)) for question in CHOICES for c in question.choices}
    assert parts == {"", *(question.name for question in CHOICES)}
    assert {"link", "zip", "make", "search", "copy", "input-project"} <= {each["id"] for each in seen}
    assert len([here for here in seen if here["tag"] == "BUTTON"]) < 40  # the tree of files is one stop
    page.locator("#undo").focus()
    before = page.locator("#command").inner_text()
    page.keyboard.press("Enter")
    expect(page.locator("#command")).not_to_have_text(before)


def test_a_part_of_the_picture_leads_to_its_question(show: Open) -> None:
    page = show()
    for question in CHOICES:
        page.locator(f"[data-part='{question.name}']").focus()
        page.keyboard.press("Enter")
        assert focused(page)["name"] == question.name
        expect(page.locator("*:focus")).to_be_in_viewport()


def test_the_tree_is_walked_with_arrow_keys(show: Open) -> None:
    page = show()
    page.locator("#tree [aria-current]").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    second = page.locator("#tree button").nth(1)
    expect(second).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#tree [aria-current]")).to_have_text(second.inner_text().replace("\n", ""))
    expect(page.locator("#path")).to_contain_text(page.locator("#tree [aria-current] .name").inner_text())


def test_what_a_choice_changes_is_marked_and_undone(show: Open) -> None:
    page = show("project=digits")
    files = engine.preview({"project": "digits"})["files"]
    after = engine.preview({"project": "digits", "serving": "export"})["files"]
    assert isinstance(files, dict)
    assert isinstance(after, dict)
    choice(page, CATALOGUE["serving"], "export").check()
    expect(page.locator("#status")).to_contain_text("new")
    new = sorted(Path(path).name for path in after.keys() - files.keys())
    changed = sorted(Path(path).name for path in after if after[path] != files.get(path, after[path]))
    assert sorted(page.locator("#tree .file.new .name").all_inner_texts()) == new
    assert sorted(page.locator("#tree .file.changed .name").all_inner_texts()) == changed
    assert new
    assert changed
    expect(page.locator("[data-part='serving']")).to_have_class("part present changed")

    page.locator("#tree .file.changed", has_text="pyproject.toml").click()
    lit = {line.strip() for line in page.locator("#lines .line.new").all_inner_texts()}
    was = {line.strip() for line in files["pyproject.toml"].splitlines()}
    assert lit == {line.strip() for line in after["pyproject.toml"].splitlines()} - was
    packages = page.locator("#needs li.new span:first-child").all_text_contents()
    assert sorted(packages) == ["onnx", "onnxruntime", "onnxscript", "safetensors"]

    page.keyboard.press("Control+z")
    expect(page.locator("#command")).to_have_text("mlscaffold new digits --yes")
    assert sorted(page.locator("#tree .file.gone .name").all_inner_texts()) == new
    expect(page.locator("#undo")).to_be_disabled()
    page.locator("#tree .file.gone", has_text="export.py").first.click()
    assert page.locator("#lines .line.gone").count() > 10


def test_the_text_of_a_file_is_shown_as_it_is(show: Open) -> None:
    page = show("project=digits&hpo=optuna&loggers=mlflow&serving=fastapi&docker=yes&monitoring=prometheus")
    files = engine.preview(
        {"project": "digits", "hpo": "optuna", "loggers": "mlflow", "serving": "fastapi", "docker": "yes",
         "monitoring": "prometheus"}
    )["files"]  # fmt: skip
    assert isinstance(files, dict)
    buttons = page.locator("#tree .file")
    assert buttons.count() == len(files)
    for number in range(0, len(files), 3):
        buttons.nth(number).click()
        path = page.locator("#path span").first.inner_text()
        assert "".join(page.locator("#lines .line").all_text_contents()) == files[path]


def test_search_finds_names_and_contents(show: Open) -> None:
    page = show()
    page.locator("#search").fill("weight_decay")
    files = engine.preview({})["files"]
    assert isinstance(files, dict)
    expect(page.locator("#tree .file")).to_have_count(sum("weight_decay" in text for text in files.values()))
    page.locator("#tree .file").first.click()
    assert page.locator("#lines .line.hit").count()
    expect(page.locator("#lines .line.hit").first).to_be_in_viewport()
    page.locator("#search").fill("no file holds this")
    expect(page.locator("#tree")).to_have_text("No file holds that.")


def test_a_text_is_typed_and_what_is_wrong_with_it_is_told_beside_it(show: Open) -> None:
    page = show()
    name = page.locator("#input-project")
    name.fill("my digits/")
    expect(page.locator("#error-project")).not_to_be_empty()
    expect(name).to_have_attribute("aria-invalid", "true")
    for button in ("#zip", "#make", "#copy"):
        expect(page.locator(button)).to_be_disabled()
    name.fill("")
    name.press_sequentially("digits")
    expect(page.locator("#command")).to_have_text("mlscaffold new digits --yes")
    expect(page.locator("#error-project")).to_be_empty()
    page.get_by_text("More about the project").click()
    expect(page.locator("#input-package")).to_have_value("digits")
    page.locator("#input-description").fill("<img src=x onerror=alert(1)><b>bold</b>")
    expect(page.locator("#command")).to_contain_text("onerror")
    page.locator("#tree .file", has_text="README.md").click()
    expect(page.locator("#lines")).to_contain_text("<b>bold</b>")
    assert page.locator("#lines img, #lines b").count() == 0


def test_what_others_close_cannot_be_taken_and_says_why(show: Open) -> None:
    page = show()
    choice(page, CATALOGUE["pretrained"], "transformers").check()
    expect(answer_in_picture(page, CATALOGUE["pretrained"])).to_have_text("transformers")
    choice(page, CATALOGUE["task"], "tabular").check()
    expect(page.locator("#error-pretrained")).to_contain_text("Pretrained models are for")
    expect(page.locator("#make")).to_be_disabled()
    choice(page, CATALOGUE["pretrained"], "none").check()
    expect(page.locator("#make")).to_be_enabled()
    expect(choice(page, CATALOGUE["pretrained"], "transformers")).to_be_disabled()
    expect(page.locator("#why-pretrained")).to_contain_text("Pretrained models are for")


def test_a_link_gives_the_same_project_and_nonsense_is_told(show: Open) -> None:
    page = show()
    page.get_by_role("button", name="To production").click()
    expect(page.locator("#command")).to_contain_text("--monitoring prometheus")
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator("#status")).to_have_text("Link copied")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == page.url
    assert "token" not in link
    again = show(urlsplit(link).fragment)
    expect(again.locator("#command")).to_have_text(page.locator("#command").inner_text())
    expect(again.locator("#notice")).to_be_hidden()

    again.reload()  # which keeps both
    expect(again.locator("#command")).to_have_text(page.locator("#command").inner_text())

    odd = show("mlscaffold=0.0.1&hpo=optuna&tusk=<b>&precision=fp64&%ff")
    expect(odd.locator("#command")).to_have_text("mlscaffold new my-project --yes --hpo optuna")
    for words in ("is of mlscaffold '0.0.1'", "'tusk' was left out", "'fp64' is not offered"):
        expect(odd.locator("#notice-text")).to_contain_text(words)
    odd.locator("#notice-close").click()
    expect(odd.locator("#notice")).to_be_hidden()


def test_presets_change_what_they_name(show: Open) -> None:
    page = show("task=tabular&project=rows")
    for title, answers in engine.catalogue()["presets"].items():  # type: ignore[attr-defined]
        page.get_by_role("button", name=title, exact=True).click()
        for name, value in answers.items():
            if value != "none" and not CATALOGUE[name].multiselect:
                expect(choice(page, CATALOGUE[name], value)).to_be_checked()
        expect(page.locator("#command")).to_contain_text("mlscaffold new rows --yes --task tabular")


def test_the_zip_and_the_shown_command_make_the_same_project(show: Open, tmp_path: Path) -> None:
    page = show("project=digits&framework=ignite&strategy=ddp&serving=litserve&launch=slurm")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download zip").click()
    page.get_by_role("button", name="Copy command").click()
    expect(page.locator("#status")).to_have_text("Command copied")
    command = page.evaluate("navigator.clipboard.readText()")
    typed(f"umask 022; {command} --no-git", tmp_path)
    assert download.value.suggested_filename == "digits.zip"
    assert unzipped(download.value.path().read_bytes()) == tree(tmp_path / "digits")


def test_a_project_is_made_here_and_a_taken_folder_is_told(show: Open, server: Web) -> None:
    page = show("project=here")
    page.get_by_role("button", name="Make it here").click()
    expect(page.locator("#folder")).to_have_value("here")
    expect(page.locator("#here")).to_have_text(str(server.folder))
    page.keyboard.press("Enter")
    expect(page.locator("#made-text")).to_contain_text(f"Made {server.folder}/here: ")
    expect(page.locator("#steps")).to_contain_text("cd here\n")
    expect(page.locator("#steps")).to_contain_text("python -m here.train")
    assert (server.folder / "here/.git").is_dir()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Make it here").click()
    page.locator("#make-now").click()
    told = "here exists and is not empty. Choose another folder, or empty it."
    expect(page.locator("#folder-error")).to_have_text(told)
    expect(page.locator("#made")).to_be_hidden()


MUCH = "task=segmentation&strategy=fsdp&loggers=tensorboard,mlflow,wandb&serving=fastapi&hpo=optuna"


@pytest.mark.parametrize("link", ["", f"{MUCH}&description={'long' * 60}"])
def test_a_phone_shows_all_without_scrolling_sideways(show: Open, link: str) -> None:
    page = show(link, phone=True)
    choice(page, CATALOGUE["ci"], "gitlab").check()
    expect(answer_in_picture(page, CATALOGUE["ci"])).to_have_text("GitLab CI/CD")
    assert page.evaluate("document.scrollingElement.scrollWidth") == 390
    wide = page.evaluate(
        """() => [...document.querySelectorAll("button, input, label, h2, p, legend")].filter(
            (e) => e.getClientRects().length && !e.closest(".hidden") &&
                   (e.getBoundingClientRect().right > 391 || e.getBoundingClientRect().left < -1))
            .map((e) => e.outerHTML.slice(0, 90))"""
    )
    assert wide == []
    page.get_by_role("button", name="Make it here").click()
    assert page.evaluate("document.scrollingElement.scrollWidth") == 390


def test_light_and_dark_follow_the_system(show: Open) -> None:
    grounds = [
        show(color_scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    ]
    assert grounds == ["rgb(255, 255, 255)", "rgb(17, 20, 24)"]


def test_a_page_without_a_token_says_where_to_find_one(browser: Browser, server: Web) -> None:
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{server.port}/#task=tabular")
    expect(page.locator("#notice-text")).to_contain_text("Open the address that `mlscaffold web` printed.")
    expect(page.locator("#zip")).to_be_disabled()
    page.goto(f"{server.address}&task=tabular")  # in the same tab
    expect(page.locator("#command")).to_contain_text("--task tabular")
    expect(page.locator("#notice")).to_be_hidden()
    assert "token" not in page.url
    page.close()


def test_a_server_that_has_ended_is_told_and_what_was_chosen_stays(browser: Browser, tmp_path: Path) -> None:
    with web(tmp_path) as ended:
        page = browser.new_page()
        page.goto(ended.address)
        choice(page, CATALOGUE["hpo"], "optuna").check()
        expect(page.locator("#command")).to_contain_text("--hpo optuna")
        ended.stop()
    choice(page, CATALOGUE["ci"], "github").check()
    expect(page.locator("#notice-text")).to_contain_text("mlscaffold web does not answer: it has ended.")
    expect(choice(page, CATALOGUE["ci"], "github")).to_be_checked()
    with web(tmp_path, port=ended.port) as again:
        page.goto(again.address)  # in the same tab
        expect(page.locator("#command")).to_contain_text("--hpo optuna --ci github")
    page.close()

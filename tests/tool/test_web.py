"""The page of a new project: what its server answers to the page, and refuses to all others."""

import io
import json
import re
import socket
import sys
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given as for_any
from hypothesis import settings
from hypothesis import strategies as st

from mlscaffold import __version__
from mlscaffold.catalogue.questions import plain, read
from mlscaffold.web import engine
from tests.support.command import refused
from tests.support.releases import ROOT, git, run
from tests.support.web import Web, web

CATALOGUE = read(ROOT)
PAGE = ROOT / "src/mlscaffold/web/page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PRODUCTION = {
    "project": "digits",
    "description": "It's <b>bold</b>:\n$HOME 猫",
    "framework": "ignite",
    "strategy": "ddp",
    "loggers": "mlflow,wandb",
    "hpo": "optuna",
    "serving": "fastapi",
    "launch": "slurm",
    "monitoring": "prometheus",
    "docker": "yes",
    "ci": "github",
}
SETS: list[dict[str, str]] = [{}, PRODUCTION, {"task": "language-modeling", "loggers": "none"}]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with web(tmp_path_factory.mktemp("web")) as started:
        yield started


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    """The files of a project and their modes, without its repository."""
    paths = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mode & 0o777) for path in paths}


def unzipped(content: bytes) -> dict[str, tuple[bytes, int]]:
    """The files of an archive, whose folder is the first part of their names, and their modes."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {
            info.filename.partition("/")[2]: (archive.read(info), info.external_attr >> 16 & 0o777)
            for info in archive.infolist()
        }


def typed(command: str, folder: Path) -> str:
    """Type a command into a shell, where `mlscaffold` is that of these tests; return what it prints."""
    text = f'mlscaffold() {{ {sys.executable} -m mlscaffold "$@"; }}\n{command}'
    return run("bash", "-c", text, cwd=folder)


def test_the_page_comes_whole_and_with_a_strict_policy(page: Web) -> None:
    files = {path.name for path in PAGE.iterdir()}
    for name in {*files, ""}:
        got = page.get(f"/{name}")
        assert got.status == 200, name
        assert got.body == (PAGE / (name or "index.html")).read_bytes()
        assert got.headers["Content-Security-Policy"] == POLICY
        assert got.headers["X-Content-Type-Options"] == "nosniff"
        assert got.headers["Cache-Control"] == "no-store"
    text = "".join(path.read_text(encoding="utf-8") for path in PAGE.iterdir())
    html = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b"
    assert not re.search(rf"{html}|https?://(?!www\.w3\.org/2000/svg)", text)


def test_the_page_lists_no_option_of_its_own() -> None:
    """Names and values come from copier.yml, so that a new option needs no change of the page."""
    words = {question.name for question in CATALOGUE.questions}
    words |= {str(choice.value) for question in CATALOGUE.questions for choice in question.choices}
    words -= {"none", "True", "False", "single", "one", "export", "task", "project", "package"}
    for path in PAGE.glob("*.mjs"):
        quoted = set(re.findall(r"[\"'`]([\w-]+)[\"'`]", path.read_text(encoding="utf-8")))
        assert not quoted & words, path.name


def test_the_catalogue_is_that_of_the_command_line(page: Web) -> None:
    begun = page.ask("/api/begin").json()
    told = cast("dict[str, Any]", begun["catalogue"])
    assert begun["here"] == str(page.folder)
    assert told["version"] == __version__
    assert [question["name"] for question in told["questions"]] == [q.name for q in CATALOGUE.questions]
    for question, shown in zip(CATALOGUE.questions, told["questions"], strict=True):
        assert question.help.startswith(shown["ask"])
        assert shown["note"] in question.help
        assert [choice["value"] for choice in shown["choices"]] == [plain(c.value) for c in question.choices]
        for choice, written in zip(question.choices, shown["choices"], strict=True):
            assert choice.label in (written["label"], f"{written['label']} ({written['note']})")


def test_each_question_with_choices_is_one_part_of_the_picture() -> None:
    told = cast("dict[str, Any]", engine.catalogue())
    parts = [name for stage in (told["stages"], told["around"]) for names in stage.values() for name in names]
    assert sorted(parts) == sorted(question.name for question in CATALOGUE.questions if question.choices)
    drawings = cast("dict[str, dict[str, list[str]]]", CATALOGUE.settings["drawings"])
    for name, drawn in drawings.items():
        assert set(drawn) == {choice.value for choice in CATALOGUE[name].choices}
        assert set("".join(row for rows in drawn.values() for row in rows)) <= set("#+.")


def test_each_preset_goes_with_each_task_and_framework() -> None:
    presets = cast("dict[str, dict[str, str]]", engine.catalogue()["presets"])
    assert list(presets) == ["Smallest", "One GPU", "Several nodes", "To production"]
    for preset in presets.values():
        for task in CATALOGUE["task"].values:
            for framework in CATALOGUE["framework"].values:
                given = {"task": str(task), "framework": str(framework), **preset}
                assert engine.preview(given)["errors"] == {}
    smallest = presets["Smallest"]
    assert set(smallest) == {q.name for q in CATALOGUE.questions if q.choices} - {"task", "framework"}


@pytest.mark.parametrize("given", SETS, ids=["defaults", "production", "language"])
def test_what_is_shown_and_zipped_is_what_the_shown_command_makes(
    page: Web, tmp_path: Path, given: dict[str, str]
) -> None:
    shown = page.ask("/api/preview", {"given": given}).json()
    packed = page.ask("/api/zip", {"given": given})
    assert packed.headers["Content-Type"] == "application/zip"
    assert packed.body == page.ask("/api/zip", {"given": given}).body

    typed(f"umask 022; {shown['command']} --no-git", tmp_path)

    made = tree(tmp_path / str(shown["project"]))
    assert unzipped(packed.body) == made
    texts = cast("dict[str, str]", shown["files"])
    assert {path: text.encode() for path, text in texts.items()} == {path: made[path][0] for path in made}


def test_only_answers_that_are_no_defaults_come_back(page: Web) -> None:
    given = {"framework": "lightning", "project": "a-b", "package": "a_b", "hpo": "optuna"}
    shown = page.ask("/api/preview", {"given": given}).json()
    assert shown["given"] == {"project": "a-b", "hpo": "optuna"}
    assert shown["command"] == "mlscaffold new a-b --yes --hpo optuna"
    assert cast("dict[str, str]", shown["answers"])["package"] == "a_b"


def test_a_choice_that_others_close_is_told_with_the_words_of_the_command(page: Web, tmp_path: Path) -> None:
    shown = page.ask("/api/preview", {"given": {"task": "tabular"}}).json()
    closed = cast("dict[str, dict[str, str]]", shown["closed"])
    reason = closed["pretrained"]["transformers"]
    assert shown["errors"] == {}

    given = {"task": "tabular", "pretrained": "transformers"}
    shown = page.ask("/api/preview", {"given": given}).json()
    assert shown["errors"] == {"pretrained": reason}
    assert "files" not in shown
    told = refused("new", "x", "--task=tabular", "--pretrained=transformers", cwd=tmp_path, code=2)
    assert reason in told
    assert page.ask("/api/zip", {"given": given}).status == 422
    assert page.ask("/api/make", {"given": given}).text == f"pretrained: {reason}\n"
    assert not (page.folder / "my-project").exists()


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"framwork": "ignite"}, {"framwork": "Did you mean framework?"}),
        ({"framework": "tf"}, {"framework": "'tf' is not offered"}),
        ({"framework": ["ignite"]}, {"framework": "is no text"}),
        ({"framework": None, "docker": True}, {"framework": "is no text", "docker": "is no text"}),
        ({"docker": "perhaps"}, {"docker": "is neither true nor false"}),
        ({"loggers": "tensorboard,x"}, {"loggers": "'x' is not offered"}),
        ({"project": "../x"}, {"project": "../x"}),
        ({"description": "\ud800"}, {"description": ""}),
        ({"package": "class"}, {"package": "class"}),
    ],
)
def test_an_answer_that_cannot_stand_is_told_beside_its_question(
    page: Web, given: dict[str, object], wrong: dict[str, str]
) -> None:
    shown = page.ask("/api/preview", {"given": given}).json()
    errors = cast("dict[str, str]", shown["errors"])
    assert errors.keys() == wrong.keys()
    for name, words in wrong.items():
        assert words in errors[name]


@pytest.mark.parametrize(
    ("link", "given", "told"),
    [
        (f"mlscaffold={__version__}&task=tabular&docker=yes", {"task": "tabular", "docker": "yes"}, []),
        ("loggers=none", {"loggers": "none"}, []),
        ("mlscaffold=0.1.0&hpo=optuna", {"hpo": "optuna"}, ["This link is of mlscaffold '0.1.0'; this is "]),
        ("tusk=tabular&hpo=optuna", {"hpo": "optuna"}, ["'tusk' was left out: 'tusk' is no option"]),
        ("hpo=chance", {}, ["'hpo' was left out: 'chance' is not offered"]),
        ("task=tabular&pretrained=transformers", {"task": "tabular"}, ["out: Pretrained models are for"]),
        ("project=..%2F..%2Fetc&x", {}, ["'project' was left out: ", "'x' was left out: "]),
        ("%ff%00&=&&&==%", {}, ["was left out"] * 2),
        ("a=" + "b" * 9000, {}, ["This link is too long"]),
        ("&".join(f"a{n}=b" for n in range(200)), {}, ["This link is too long"]),
        ("", {}, []),
    ],
)
def test_of_a_link_what_can_be_is_taken_and_the_rest_is_told(
    link: str, given: dict[str, str], told: list[str]
) -> None:
    read_ = engine.read_link(link)
    assert read_["given"] == given
    lines = cast("list[str]", read_["told"])
    assert len(lines) == len(told)
    assert all(any(words in line for line in lines) for words in told)


@pytest.mark.parametrize("given", SETS, ids=["defaults", "production", "language"])
def test_the_link_of_a_project_gives_it_again(page: Web, given: dict[str, str]) -> None:
    shown = page.ask("/api/preview", {"given": given}).json()
    again = page.ask("/api/link", {"link": shown["link"]}).json()
    assert again == {"given": shown["given"], "told": []}
    assert page.ask("/api/preview", {"given": again["given"]}).json() == shown


NAMES = st.sampled_from([question.name for question in CATALOGUE.questions]) | st.text(max_size=20)
VALUES = st.sampled_from([plain(v) for q in CATALOGUE.questions for v in q.values]) | st.text(max_size=60)


@settings(max_examples=60, deadline=None)
@for_any(st.dictionaries(NAMES, VALUES | st.none() | st.integers() | st.lists(st.text()), max_size=6))
def test_whatever_is_given_is_answered(given: dict[str, object]) -> None:
    shown = engine.preview(given)
    json.dumps(shown)
    assert ("files" in shown) == (not shown["errors"])
    link = engine.read_link("&".join(f"{name}={value}" for name, value in given.items()))
    json.dumps(link)


def test_packages_are_told_with_what_their_lines_say() -> None:
    shown = engine.preview({"serving": "export"})
    needs = cast("list[dict[str, str]]", shown["needs"])
    found = {need["name"]: need for need in needs}
    assert {"torch", "pytorch-lightning", "onnx"} <= found.keys()
    assert found["onnx"]["bounds"].startswith(">=")
    assert found["onnx"]["note"] == "which onnxscript would take older"
    assert found["torch"]["note"] == ""


def test_make_does_what_the_command_does(page: Web, tmp_path: Path) -> None:
    made = page.ask("/api/make", {"given": PRODUCTION, "folder": "deep/er"}).json()
    folder = page.folder / "deep/er"
    assert made["path"] == str(folder)

    command = str(page.ask("/api/preview", {"given": PRODUCTION}).json()["command"])
    said = typed(command.replace("new digits", "new deep/er --project digits", 1), tmp_path)
    assert tree(folder) == tree(tmp_path / "deep/er")
    assert made["files"] == len(tree(folder))
    assert str(made["steps"]).replace(str(folder), "deep/er") in said
    assert git(folder, "log", "--format=%s") == f"Start from mlscaffold {__version__}"


def test_a_folder_that_is_taken_is_refused_with_the_words_of_the_command(page: Web) -> None:
    (page.folder / "taken").mkdir()
    (page.folder / "taken/mine").write_text("mine")
    (page.folder / "file").write_text("mine")
    for folder in ("taken", "file", "file/within", "/proc/digits", str(page.folder), "nul\0nul"):
        got = page.ask("/api/make", {"given": {}, "folder": folder})
        assert got.status == 422
        if "\0" not in folder:  # which no command line takes
            told = refused("new", folder, "--project=digits", cwd=page.folder, code=1)
            assert told == f"mlscaffold: {got.text}"
    assert (page.folder / "taken/mine").read_text() == "mine"


def test_a_home_is_found_as_a_shell_finds_it(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    with web(tmp_path, HOME=str(tmp_path / "home")) as started:
        made = started.ask("/api/make", {"folder": "~/digits"}).json()
    assert made["path"] == str(tmp_path / "home/digits")
    assert (tmp_path / "home/digits/pyproject.toml").is_file()


BODY = {"given": {}, "folder": "harm"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:{port}"}, 403),
        ({"Host": "127.0.0.1"}, 403),
        ({"Host": "127.0.0.1:1"}, 403),
        ({"Host": "127.0.0.1:{port}.evil.example"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://localhost:{port}"}, 403),
        ({"X-Mlscaffold-Token": ""}, 403),
        ({"X-Mlscaffold-Token": "wrong"}, 403),
        ({"X-Mlscaffold-Token": "\xe9"}, 403),
        ({"Content-Length": ""}, 411),
        ({"Content-Length": "-1"}, 411),
        ({"Content-Length": "65537"}, 413),
        ({"Content-Length": "9" * 400}, 413),
        ({"Content-Length": "", "Transfer-Encoding": "chunked"}, 411),
    ],
)
def test_what_is_not_of_the_page_does_nothing(page: Web, headers: dict[str, str], status: int) -> None:
    sent = {name: value.format(port=page.port) for name, value in headers.items()}
    for what in ("begin", "preview", "zip", "make", *(["token"] if status == 403 else [])):
        got = page.ask(f"/api/{what}", BODY, **sent)
        assert got.status == status, what
        assert len(got.text.splitlines()) == 1
        assert page.token not in got.text
        assert "Access-Control-Allow-Origin" not in got.headers
    assert not (page.folder / "harm").exists()


def test_a_page_elsewhere_that_lets_its_name_lead_here_gets_no_file(page: Web) -> None:
    assert page.get("/", Host=f"evil.example:{page.port}").status == 403
    assert page.get("/", Host=f"localhost:{page.port}").status == 200


def test_localhost_is_the_same_page(page: Web) -> None:
    host = f"localhost:{page.port}"
    assert page.ask("/api/begin", Host=host, Origin=f"http://{host}").status == 200


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "This is no JSON."),
        (b"\xff", "This is no JSON."),
        (b"[" * 60_000, "This is no JSON."),
        (b"[]", "This is no object"),
        (b'{"given": []}', "This is no object"),
    ],
)
def test_what_is_no_request_is_told_so(page: Web, body: bytes, told: str) -> None:
    got = page.ask("/api/preview", body)
    assert got.status == 400
    assert told in got.text


def test_a_body_as_long_as_one_may_be_is_read(page: Web) -> None:
    body = json.dumps({"given": {"description": ""}}).encode()
    body = body.replace(b'""', b'"' + b"x" * ((1 << 16) - len(body)) + b'"')
    assert len(body) == 1 << 16
    assert page.ask("/api/preview", body).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../server.py",
        "/..%2fserver.py",
        "/%2e%2e/server.py",
        "/page/../../server.py",
        "//etc/passwd",
        "/etc/passwd",
        "/./page.css",
        "\\..\\server.py",
        "/page.css/",
        "/.git/config",
        "/api/begin",
    ],
)
def test_nothing_but_the_files_of_the_page_is_read(page: Web, path: str) -> None:
    got = page.get(path)
    assert got.status == 404
    assert got.text == "There is no such file.\n"


def test_other_methods_and_names_are_refused(page: Web) -> None:
    for method in ("PUT", "DELETE", "OPTIONS", "HEAD", "TRACE", "NONSENSE"):
        got = page.request(method, "/", b"", {})
        assert got.status == 501
        assert got.headers["Content-Security-Policy"] == POLICY
    assert page.ask("/api/shell").status == 404
    with socket.create_connection(("127.0.0.1", page.port)) as connection:
        connection.sendall(b"\x16\x03\x01 no HTTP\r\n\r\n")
        assert b"Bad request" in connection.recv(4096)


def test_nobody_but_this_machine_can_connect(page: Web) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", page.port), timeout=10)


def test_connections_that_say_nothing_are_bounded_and_do_no_harm(page: Web) -> None:
    with ExitStack() as stack:
        for _ in range(40):
            last = stack.enter_context(socket.create_connection(("127.0.0.1", page.port), timeout=30))
        assert last.recv(1) == b""  # is closed at once
    while True:  # the others end in threads of their own
        with suppress(ConnectionError):
            assert page.get("/").status == 200
            break


def test_a_browser_is_opened_with_a_key_that_counts_once(tmp_path: Path) -> None:
    """Others on this machine may see with what address a program was started."""
    browser = tmp_path / "browser"
    browser.write_text(
        f'#!/bin/sh\necho "$1" > {tmp_path}/seen\necho end >> {tmp_path}/seen\nexec sleep 9 >&- 2>&-\n'
    )
    browser.chmod(0o755)
    (tmp_path / "seen").touch()
    with web(tmp_path, opens=True, BROWSER=str(browser)) as started:
        assert started.get("/").status == 200  # although the browser has not ended
        while "end" not in (opened := (tmp_path / "seen").read_text()):
            assert started.get("/").status == 200
        address, _, key = opened.split()[0].partition("#key=")
        assert address == f"http://127.0.0.1:{started.port}/"
        assert key != started.token
        assert started.ask("/api/begin", X_Mlscaffold_Token=key).status == 403
        assert started.ask("/api/token", X_Mlscaffold_Token=key).json() == {"token": started.token}
        assert started.ask("/api/token", X_Mlscaffold_Token=key).status == 403


def test_a_port_that_is_taken_is_told_in_a_line(page: Web, tmp_path: Path) -> None:
    told = refused("web", "--port", str(page.port), cwd=tmp_path, code=1, lines=1)
    assert told == (
        f"mlscaffold: Port {page.port} is taken. Give another one: `mlscaffold web --port 0` takes any.\n"
    )
    assert "0<=x<=65535" in refused("web", "--port", "65536", cwd=tmp_path, code=2, lines=1)


@pytest.mark.cold
def test_ctrl_c_ends_it_with_a_line(tmp_path: Path) -> None:
    with web(tmp_path) as started:
        assert started.get("/").status == 200
        assert started.stop() == (130, "mlscaffold: Stopped.\n")
        with pytest.raises(ConnectionRefusedError):
            started.get("/")
    with web(tmp_path, port=started.port) as again:  # at once, on the same port
        assert again.token != started.token
        assert again.ask("/api/begin", X_Mlscaffold_Token=started.token).status == 403


def test_the_engine_needs_no_server_no_terminal_and_no_flags(tmp_path: Path) -> None:
    """So that a browser can run it, where none of these are."""
    code = "import sys, mlscaffold.web.engine as e; e.archive({}); print(*sys.modules)"
    loaded = set(run(sys.executable, "-c", code, cwd=tmp_path).split())
    assert "mlscaffold.rendering.render" in loaded
    assert loaded.isdisjoint({"typer", "click", "rich", "questionary", "http.server", "copier"})
    assert not {name for name in loaded if name.startswith(("mlscaffold.new", "mlscaffold.update"))}


def test_what_was_made_is_told_in_the_terminal(tmp_path: Path) -> None:
    with web(tmp_path) as started:
        made = started.ask("/api/make").json()
        assert started.process.stdout
        assert started.process.stdout.readline() == f"It makes projects in {tmp_path}. Ctrl-C ends it.\n"
        assert started.process.stdout.readline() == f"Made my-project: {made['files']} files.\n"

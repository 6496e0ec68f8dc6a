"""Take the pictures of `mlscaffold web` for the docs, in a real browser: `python tools/page.py`."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, ViewportSize, expect, sync_playwright

COLOURS = 224  # of a picture: enough for a page, and a quarter of the bytes
WIDE, PHONE = ViewportSize(width=1440, height=900), ViewportSize(width=390, height=844)
PROJECT = "project=digits&framework=ignite&loggers=tensorboard,mlflow&serving=fastapi"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlscaffold", "web", "--port", "0", "--no-open"],
            cwd=folder, env={**os.environ, "PYTHONPATH": str(Path("src").absolute())}, text=True,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert server.stdout
        address = server.stdout.readline().split()[-1]
        try:
            with sync_playwright() as playwright:
                program = shutil.which("chromium")
                browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
                take(browser, address, "web-light", WIDE, "light")
                take(browser, address, "web-dark", WIDE, "dark")
                take(browser, address, "web-phone", PHONE, "light")
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()


def take(
    browser: Browser, address: str, name: str, size: ViewportSize, scheme: Literal["light", "dark"]
) -> None:
    """Open a project, let it train on several devices, and save what is seen then."""
    context = browser.new_context(viewport=size, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{address}&{PROJECT}")
    expect(page.locator("#command")).not_to_be_empty()
    page.get_by_label("Several, DDP").check()
    expect(page.locator("#command")).to_contain_text("--strategy ddp")
    page.get_by_role("button", name=re.compile("^engine.py")).click()
    page.evaluate("scrollTo(0, 0)")
    picture = Image.open(io.BytesIO(page.screenshot(caret="hide"))).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(f"docs/{name}.png", optimize=True)
    context.close()


if __name__ == "__main__":
    main()

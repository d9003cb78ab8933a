"""Pages in a parser and in a browser."""

import contextlib
import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest

VOID = {"meta", "link", "input", "br", "hr", "img"}
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")


class Page(HTMLParser):
    """A page as a tree (`root`), its nesting checked, with ids, references and outside addresses."""

    def __init__(self, text):
        super().__init__()
        self.root = ET.Element("page")
        self.stack, self.ids, self.references, self.outside, self.counts = [self.root], [], [], [], {}
        self.feed(text)
        self.close()
        assert self.stack == [self.root]
        assert len(set(self.ids)) == len(self.ids)
        assert set(self.references) <= set(self.ids)
        assert self.outside == []

    def handle_starttag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        attributes = {name: value or "" for name, value in attrs}
        self.ids += [attributes["id"]] if "id" in attributes else []
        for name in ("aria-labelledby", "data-copies"):
            self.references += attributes.get(name, "").split()
        if "clip-path" in attributes:
            self.references.append(attributes["clip-path"].removeprefix("url(#").removesuffix(")"))
        addresses = [attributes[name] for name in ("src", "href") if name in attributes]
        self.outside += [address for address in addresses if not address.startswith("data:")]
        self.stack.append(ET.SubElement(self.stack[-1], tag, attributes))
        if tag in VOID:
            self.stack.pop()

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        assert self.stack.pop().tag == tag, f"</{tag}> closes something else at {self.getpos()}"

    def handle_data(self, data):
        parent = self.stack[-1]
        if len(parent):
            parent[-1].tail = (parent[-1].tail or "") + data
        else:
            parent.text = (parent.text or "") + data

    def find(self, tag, **attributes):
        """The elements of a name that have these attributes (`class_` for class)."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [one for one in self.root.iter(tag) if wanted.items() <= one.attrib.items()]

    def words(self):
        """All that is read, without scripts and styles."""
        hidden = {id(one) for tag in ("script", "style") for one in self.root.iter(tag)}
        return " ".join(
            part
            for one in self.root.iter()
            for part in ((one.text or "") * (id(one) not in hidden), one.tail or "")
        )


def text_of(element):
    return "".join(element.itertext())


def cells(table):
    """The texts of a table's rows."""
    return [[text_of(cell).strip() for cell in row] for row in table.iter("tr")]


class Browser:
    """A headless Chromium driven by WebDriver over HTTP, with nothing but the standard library."""

    def __init__(self, port, options):
        self.base = f"http://127.0.0.1:{port}/session"
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        self.base += "/" + self.post("", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]

    def post(self, command, body, method="POST"):
        data = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.base + command, data, headers, method=method)
        with self.opener.open(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def run(self, script, *arguments):
        return self.post("/execute/sync", {"script": script, "args": arguments})

    def wait(self, condition, seconds=20.0):
        end = time.monotonic() + seconds
        while not self.run("return " + condition):
            assert time.monotonic() < end, f"never came true: {condition}"
            time.sleep(0.05)

    def open(self, url):
        self.post("/url", {"url": url})
        self.wait(f"document.readyState === 'complete' && location.href === {json.dumps(url)}")

    def click(self, selector):
        element = self.post("/element", {"using": "css selector", "value": selector})
        self.post(f"/element/{next(iter(element.values()))}/click", {})

    def press(self, key):
        actions = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
        self.post("/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def text_of(self, selector):
        return self.run("return document.querySelector(arguments[0]).innerText", selector)

    def is_dark(self):
        background = self.run("return getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", background)[:3])) < 384

    def resize(self, width, height, dark):
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        for name, parameters in (
            ("Emulation.setDeviceMetricsOverride", metrics),
            ("Emulation.setEmulatedMedia", {"features": scheme}),
        ):
            self.post("/goog/cdp/execute", {"cmd": name, "params": parameters})


@pytest.fixture(scope="module")
def browser():
    if not (BROWSER and DRIVER):
        pytest.skip("no Chromium with chromedriver on this machine")
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --mute-audio"
        " --disable-background-networking --disable-component-update --disable-sync"
    )
    with contextlib.ExitStack() as stack:
        profile = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        driver = stack.enter_context(
            subprocess.Popen(
                [DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        )
        stack.callback(driver.terminate)
        assert driver.stdout is not None
        lines = iter(driver.stdout.readline, "")
        port = next(found[1] for line in lines if (found := re.search(r"successfully on port (\d+)", line)))
        arguments = [*flags.split(), f"--user-data-dir={profile}"]
        session = Browser(port, {"binary": BROWSER, "args": arguments})
        stack.callback(session.post, "", {}, "DELETE")
        yield session

"""What every kind of channel promises, whatever takes the messages; each against a real one on this machine."""

import base64
import email
import email.policy
import hashlib
import hmac
import http.server
import importlib
import json
import os
import pkgutil
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime

import pytest

import tomovault.notify
from tomovault.core.errors import TomovaultError, Transient, UserError
from tomovault.core.notice import Message

SECRET = "not for anybody's eyes"
MESSAGE = Message(
    id="n123.1",
    topic="alarms",
    site="ID19",
    subject="inhouse is full\r\nBcc: everybody@example.org",
    text="The area inhouse stands at 99 %.\n.\nÅngström\n",
    at=datetime(2026, 3, 1, 12, tzinfo=UTC),
    recipients=("anna@example.org",),
    facts={"area": "inhouse"},
)


def kinds():
    for info in pkgutil.iter_modules(tomovault.notify.__path__):
        if hasattr(importlib.import_module(f"tomovault.notify.{info.name}"), "PLUGIN"):
            yield info.name


def plugin_of(kind):
    return importlib.import_module(f"tomovault.notify.{kind}").PLUGIN


class Server:
    """Something on this machine that takes messages, refuses them, or does not answer."""

    def __init__(self):
        self.taken = []
        self.mood = "well"
        self.released = threading.Event()

    def close(self):
        self.released.set()


ANSWERS = {
    "EHLO": "250-mail.example.org\r\n250 AUTH PLAIN",
    "AUTH": "235 come in",
    "MAIL": "250 well",
    "RCPT": "250 well",
    "DATA": "354 go on",
    "RSET": "250 well",
    "QUIT": "221 bye",
}


class MailSession(socketserver.StreamRequestHandler):
    """As much of RFC 5321 as a client needs."""

    def handle(self):
        owner, envelope = self.server.owner, {}
        if owner.mood == "hangs":
            owner.released.wait(20)
            return
        self.say("220 mail.example.org")
        while line := self.rfile.readline().decode("utf-8", "replace").rstrip("\r\n"):
            verb = line.partition(" ")[0].upper()
            if verb == "RCPT" and owner.mood == "refuses":
                self.say("550 no such box")
                continue
            envelope.setdefault(verb, []).append(line)
            self.say(ANSWERS.get(verb, "502 what"))
            if verb == "DATA":
                owner.taken.append(envelope | {"data": self.body()})
                self.say("250 taken")

    def body(self):
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            lines.append(line[1:] if line.startswith(b".") else line)
        return b"".join(lines)

    def say(self, text):
        self.wfile.write(text.encode() + b"\r\n")


class MailServer(Server):
    """A mail server; with `tls`, from the first byte on."""

    def __init__(self, _folder, tls=None):
        super().__init__()
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), MailSession)
        self._server.daemon_threads = True
        self._server.owner = self
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        _serve(self._server)

    def options(self, **more):
        host, port = self._server.server_address
        return {"host": host, "port": port, "tls": "none", "from": "tomovault@example.org", "timeout": 1.0} | more

    def messages(self):
        for envelope in self.taken:
            mail = email.message_from_bytes(envelope["data"], policy=email.policy.default)
            found = {"id": mail["Message-ID"].strip("<>").partition("@")[0], "text": mail.get_content(), "mail": mail}
            yield found | {"envelope": envelope}

    def close(self):
        super().close()
        self._server.shutdown()
        self._server.server_close()


class _WebServer(http.server.ThreadingHTTPServer):
    def server_bind(self):
        """Without asking a name server what this machine is called."""
        socketserver.TCPServer.server_bind(self)


class Hook(Server):
    """A web server that takes what is posted to it."""

    def __init__(self, _folder, tls=None):
        super().__init__()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if outer.mood == "hangs":
                    outer.released.wait(20)
                    return
                if outer.mood.startswith("redirects") and self.path == "/hook":
                    self.send_response(307)
                    self.send_header("Location", outer.mood.partition(" ")[2])
                elif outer.mood == "refuses":
                    self.send_response(503)
                else:
                    outer.taken.append((self.path, dict(self.headers), body))
                    self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = _WebServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._scheme = "http" if tls is None else "https"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        _serve(self._server)

    @property
    def port(self):
        return self._server.server_address[1]

    def options(self, **more):
        return {"url": f"{self._scheme}://127.0.0.1:{self.port}/hook", "timeout": 1.0} | more

    def messages(self):
        for _, headers, body in self.taken:
            yield json.loads(body) | {"headers": headers, "body": body}

    def close(self):
        super().close()
        self._server.shutdown()
        self._server.server_close()


class Script(Server):
    """A program that puts each message into a file of its own."""

    def __init__(self, folder):
        super().__init__()
        self._folder = folder / "taken"
        self._folder.mkdir()
        self._path = folder / "page.py"
        self._mood = folder / "mood"
        self._path.write_text(
            "import os, sys, time, uuid\n"
            f"mood = open({str(self._mood)!r}).read() if os.path.exists({str(self._mood)!r}) else ''\n"
            "if mood == 'hangs':\n"
            "    os.fork()\n"
            "    time.sleep(20)\n"
            "if mood == 'refuses':\n"
            "    sys.exit('nobody is on call\\x1b[31m')\n"
            "body = sys.stdin.buffer.read()\n"
            f"open(os.path.join({str(self._folder)!r}, uuid.uuid4().hex), 'wb').write(body)\n"
            f"open({str(folder / 'environment')!r}, 'w').write(repr(dict(os.environ)))\n"
        )

    @property
    def mood(self):
        return self._mood.read_text()

    @mood.setter
    def mood(self, value):
        if hasattr(self, "_mood"):
            self._mood.write_text(value)

    def options(self, **more):
        return {"argv": [sys.executable, str(self._path)], "timeout": 3.0} | more

    def messages(self):
        for path in self._folder.iterdir():
            yield json.loads(path.read_bytes())


SERVERS = {"smtp": MailServer, "webhook": Hook, "command": Script}


def _serve(server):
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


@pytest.fixture(params=list(kinds()))
def kind(request):
    return request.param


@pytest.fixture
def server(kind, tmp_path):
    made = SERVERS[kind](tmp_path)
    yield made
    made.close()


@pytest.fixture
def channel(kind, server):
    return lambda **more: plugin_of(kind)("far", server.options(**more))


def test_every_kind_has_a_server_here():
    assert set(kinds()) == set(SERVERS)


def test_a_message_arrives_whole_and_once(channel, server):
    channel().send(MESSAGE)
    (got,) = server.messages()
    assert got["id"] == MESSAGE.id
    assert got["text"].splitlines() == MESSAGE.text.splitlines()


def test_the_same_message_has_the_same_id_at_every_try(channel, server):
    channel().send(MESSAGE)
    channel().send(MESSAGE)
    assert [got["id"] for got in server.messages()] == [MESSAGE.id] * 2


def test_one_that_is_refused_says_why_and_can_be_sent_again(channel, server):
    server.mood = "refuses"
    with pytest.raises(Transient) as refusal:
        channel().send(MESSAGE)
    assert any(word in refusal.value.message for word in ("550", "no such box", "503", "nobody is on call"))
    assert refusal.value.message.isprintable()
    assert list(server.messages()) == []
    server.mood = "well"
    channel().send(MESSAGE)
    assert len(list(server.messages())) == 1


def test_one_that_hangs_is_given_up_in_time(channel, server):
    server.mood = "hangs"
    began = time.monotonic()
    with pytest.raises(Transient):
        channel(timeout=0.5).send(MESSAGE)
    assert time.monotonic() - began < 10


def test_one_that_is_not_there_says_so(kind, server, channel):
    gone = channel()
    if kind == "command":
        gone = channel(argv=["/nowhere/page"])
    server.close()
    with pytest.raises(TomovaultError):
        gone.send(MESSAGE)


def test_health_says_how_it_goes_out_and_sends_nothing(channel, server):
    assert channel().health()
    assert list(server.messages()) == []


def test_right_options_have_no_problem_and_none_is_unknown(kind, server):
    assert list(plugin_of(kind).problems(server.options())) == []
    assert server.options().keys() <= plugin_of(kind).OPTIONS


WRONG = {
    "smtp": [
        ({"host": ""}, "host"),
        ({"host": "a b"}, "host"),
        ({"port": 0}, "port"),
        ({"port": True}, "port"),
        ({"tls": "ssl"}, "tls"),
        ({"from": "data\r\nBcc: x@example.org"}, "from"),
        ({"user": "us"}, "user"),
        ({"host": "mail.example.org", "user": "us", "password_file": "p", "tls": "none"}, "tls"),
        ({"password_file": "p", "password_variable": "P"}, "password_variable"),
        ({"timeout": 0}, "timeout"),
    ],
    "webhook": [
        ({"url": "ftp://example.org"}, "url"),
        ({"url": 5}, "url"),
        ({"url": "https://"}, "url"),
        ({"url": "http://example.org/hook"}, "url"),
        ({"url": "https://us:secret@example.org/hook"}, "url"),
        ({"url": "https://example.org/a b"}, "url"),
        ({"url": "https://example.org:99999/"}, "url"),
        ({"secret_file": ""}, "secret_file"),
        ({"timeout": 1e9}, "timeout"),
    ],
    "command": [
        ({"argv": []}, "argv"),
        ({"argv": "page --now"}, "argv"),
        ({"argv": ["page"]}, "argv"),
        ({"argv": ["/bin/page", 5]}, "argv"),
        ({"timeout": "soon"}, "timeout"),
    ],
}


@pytest.mark.parametrize(("kind", "wrong", "key"), [(k, w, key) for k, cases in WRONG.items() for w, key in cases])
def test_a_wrong_option_is_told_by_its_key(kind, wrong, key, tmp_path):
    server = SERVERS[kind](tmp_path)
    assert [at for at, _ in plugin_of(kind).problems(server.options() | wrong)] == [key]
    server.close()


# --- what is special of one kind ---------------------------------------------------------------------


def test_a_mail_has_one_recipient_one_subject_and_no_line_of_anybody_else(tmp_path):
    server = MailServer(tmp_path)
    plugin_of("smtp")("mail", server.options()).send(MESSAGE)
    (got,) = server.messages()
    server.close()
    assert got["envelope"]["RCPT"] == ["rcpt TO:<anna@example.org>"]
    assert got["mail"]["Bcc"] is None
    assert got["mail"]["Subject"].endswith("everybody@example.org")
    assert got["mail"]["Auto-Submitted"] == "auto-generated"
    assert got["mail"]["Message-ID"] == "<n123.1@example.org>"


def test_starttls_that_is_not_offered_is_not_done_without(tmp_path):
    server = MailServer(tmp_path)
    with pytest.raises(Transient):
        plugin_of("smtp")("mail", server.options(tls="starttls")).send(MESSAGE)
    assert server.taken == []
    server.close()


@pytest.fixture
def hook(tmp_path):
    made = Hook(tmp_path)
    yield made
    made.close()


def test_a_post_is_signed_with_the_secret_of_a_file(hook, tmp_path):
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    plugin_of("webhook")("chat", hook.options(secret_file=str(path))).send(MESSAGE)
    (got,) = hook.messages()
    mac = hmac.new(SECRET.encode(), got["body"], hashlib.sha256).hexdigest()
    assert got["headers"]["X-Tomovault-Signature"] == f"sha256={mac}"
    assert SECRET.encode() not in got["body"]


@pytest.mark.parametrize("where", ["/other", "http://127.0.0.1:{port}/other"])
def test_a_redirect_on_the_same_host_is_followed(hook, where):
    hook.mood = "redirects " + where.format(port=hook.port)
    plugin_of("webhook")("chat", hook.options()).send(MESSAGE)
    assert [path for path, _, _ in hook.taken] == ["/other"]


@pytest.mark.parametrize(
    "where", ["http://localhost:{port}/other", "https://127.0.0.1/x", "file:///etc/passwd", "//h/x"]
)
def test_a_redirect_to_another_place_is_told_nothing(hook, where):
    hook.mood = "redirects " + where.format(port=hook.port)
    with pytest.raises(UserError, match="another place"):
        plugin_of("webhook")("chat", hook.options()).send(MESSAGE)
    assert hook.taken == []


def test_redirects_without_end_are_given_up(hook):
    hook.mood = "redirects /hook"
    with pytest.raises(Transient, match="again and again"):
        plugin_of("webhook")("chat", hook.options()).send(MESSAGE)


def test_an_error_names_no_path_of_a_hook(hook):
    hook.mood = "refuses"
    with pytest.raises(Transient) as refusal:
        plugin_of("webhook")("chat", hook.options()).send(MESSAGE)
    assert "/hook" not in refusal.value.message


def test_a_command_sees_nothing_of_our_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("TOMOVAULT_PASSWORD", SECRET)
    script = Script(tmp_path)
    plugin_of("command")("pager", script.options()).send(MESSAGE)
    assert SECRET not in (tmp_path / "environment").read_text()


def test_a_command_that_reads_nothing_is_taken_at_its_word(tmp_path):
    plugin_of("command")("pager", {"argv": ["/bin/true"]}).send(MESSAGE)
    with pytest.raises(Transient, match="ended with 1"):
        plugin_of("command")("pager", {"argv": ["/bin/false"]}).send(MESSAGE)


@pytest.mark.parametrize(
    ("content", "mode", "problem"),
    [(SECRET, 0o644, "by others"), ("", 0o600, "one line"), ("a\nb", 0o600, "one line"), (b"\xff", 0o600, "not text")],
)
def test_a_secret_in_a_bad_file_is_refused_and_not_shown(tmp_path, content, mode, problem):
    path = tmp_path / "secret"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    with pytest.raises(UserError, match=problem) as refusal:
        plugin_of("webhook")("chat", {"url": "https://example.org/", "secret_file": str(path)}).health()
    assert SECRET not in refusal.value.message + refusal.value.hint


def test_a_secret_of_the_environment(monkeypatch):
    channel = plugin_of("smtp")(
        "mail", {"host": "localhost", "from": "a@example.org", "user": "us", "password_variable": "MAIL_PASSWORD"}
    )
    monkeypatch.delenv("MAIL_PASSWORD", raising=False)
    with pytest.raises(UserError, match="MAIL_PASSWORD is not set"):
        channel.health()
    monkeypatch.setenv("MAIL_PASSWORD", SECRET)
    assert SECRET not in channel.health()
    assert os.environ["MAIL_PASSWORD"] == SECRET


# --- with TLS ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of this machine that nobody knows but who is given its file, and the key of it."""
    folder = tmp_path_factory.mktemp("tls")
    made, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=here"]
    more = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(made)]
    subprocess.run([*command, *more], check=True, capture_output=True, timeout=120)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    return str(made), context


@pytest.mark.component("openssl")
@pytest.mark.parametrize(("kind", "more"), [("smtp", {"tls": "tls"}), ("webhook", {})])
def test_only_a_certificate_that_is_known_is_told_anything(kind, more, certificate, tmp_path):
    made, context = certificate
    server = SERVERS[kind](tmp_path, tls=context)
    options = server.options(timeout=20.0, **more)
    with pytest.raises(Transient, match=r"(?i)certificate"):
        plugin_of(kind)("far", options).send(MESSAGE)
    assert list(server.messages()) == []
    plugin_of(kind)("far", options | {"ca_file": made}).send(MESSAGE)
    assert [got["id"] for got in server.messages()] == [MESSAGE.id]
    server.close()


@pytest.mark.component("openssl")
def test_a_password_goes_to_the_mail_server_it_is_for(certificate, tmp_path, monkeypatch):
    made, context = certificate
    server = MailServer(tmp_path, tls=context)
    monkeypatch.setenv("MAIL_PASSWORD", SECRET)
    login = {"user": "us", "password_variable": "MAIL_PASSWORD", "tls": "tls", "ca_file": made, "timeout": 20.0}
    plugin_of("smtp")("mail", server.options(**login)).send(MESSAGE)
    (got,) = server.messages()
    assert base64.b64decode(got["envelope"]["AUTH"][0].split()[-1]).split(b"\0") == [b"", b"us", SECRET.encode()]
    server.close()

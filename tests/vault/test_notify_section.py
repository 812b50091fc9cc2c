from pathlib import Path

import pytest

from tomovault.core.errors import UserError
from tomovault.core.notice import Topic
from tomovault.notify.address import recipients_for
from tomovault.notify.texts import FIELDS, PARTS, check_template, render, shipped
from tomovault.vault.metrics_section import split_listen
from tomovault.vault.notices import addressees
from tomovault.vault.site_file import parse_site

MAIL = "mail: {kind: smtp, host: smtp.example.org, from: vault@example.org}"
HOOK = "chat: {kind: webhook, url: 'https://chat.example.org/hook', timeout: 5s, secret_file: hook-secret}"


def section(text, folder):
    return parse_site(f"notify: {{{text}}}", "tomovault.yaml", folder).notify


def test_two_lines_are_enough(tmp_path):
    conf = section(f"channels: {{{MAIL}}}, alarms: {{channels: mail, to: data@example.org}}", tmp_path)
    assert addressees(conf, Topic.ALARMS) == [("mail", "data@example.org")]
    assert addressees(conf, Topic.WARNINGS) == []
    assert (conf.site, conf.digest_at, conf.warn_s, conf.extend.days) == (tmp_path.name, (7, 0), 0.0, 30)
    assert parse_site("", "tomovault.yaml", tmp_path).notify is None
    assert addressees(None, Topic.ALARMS) == []


def test_owners_have_addresses_of_their_own(tmp_path):
    route = "warnings: {channels: [mail, chat], to: ['{owner}@example.org', data@example.org]}"
    conf = section(f"channels: {{{MAIL}, {HOOK}}}, {route}, warn: 7d", tmp_path)
    assert addressees(conf, Topic.WARNINGS, "anna") == [
        ("mail", "anna@example.org"),
        ("mail", "data@example.org"),
        ("chat", ""),
    ]
    assert addressees(conf, Topic.WARNINGS, None) == [("mail", "data@example.org"), ("chat", "")]
    assert conf.warn_s == 7 * 86400
    options = conf.channels["chat"].options
    assert (options["timeout"], options["secret_file"]) == (5.0, str(tmp_path / "hook-secret"))


@pytest.mark.parametrize(
    "owner", ["a b", "x@evil.example", "a\nBcc: b", "", "a,b@c", "é", "../x", "x" * 65, "<a>", "\udcff"]
)
def test_an_owner_who_would_be_no_address_gets_none(owner):
    assert recipients_for(["{owner}@example.org", "data@example.org"], owner) == ("data@example.org",)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("channels: {}", "at least 1"),
        ("channels: {mail: {kind: smpt}}", "unknown kind 'smpt' of channel; did you mean 'smtp'?"),
        ("channels: {mail: {kind: smtp, hots: a, from: a@b}}", "has no key 'hots'"),
        ("channels: {mail: {kind: smtp, from: a@b.c}}", "the name of the mail server"),
        (f"channels: {{{MAIL[:-1]}, password: geheim}}}}", "does not stand in the site's file; use password_file"),
        ("channels: {c: {kind: command, argv: [page]}}", "'page' is not a path from the root"),
        ("channels: {c: {kind: command, argv: [/bin/true], timeout: soon}}", "between 1s and 10m"),
        (f"channels: {{{MAIL}}}, alarms: {{channels: [male], to: a@b.c}}", "no channel 'male'; did you mean 'mail'?"),
        (f"channels: {{{MAIL}}}, alarms: {{channels: mail}}", "mail needs somebody to go to"),
        (f"channels: {{{MAIL}}}, alarms: {{channels: mail, to: nobody}}", "'nobody' is not an address"),
        (f"channels: {{{MAIL}}}, alarms: {{channels: mail, to: '{{owner}}@b.c'}}", "are about the data of one owner"),
        (f"channels: {{{MAIL}}}, digest_at: 7", "is not a time of day"),
        (f"channels: {{{MAIL}}}, digest_at: '24:00'", "is not a time of day"),
        (f"channels: {{{MAIL}}}, warn: 7d", "name the channels under 'warnings'"),
        (f"channels: {{{MAIL}}}, repeat: 1s", "not told again more often"),
        (f"channels: {{{MAIL}}}, extend: {{days: 0}}", "greater than or equal to 1"),
        (f"channels: {{{MAIL}}}, alarm: {{channels: mail}}", "did you mean 'alarms'"),
    ],
)
def test_a_wrong_section_is_told_with_its_place(text, problem, tmp_path):
    with pytest.raises(UserError) as refusal:
        section(text, tmp_path)
    assert problem in refusal.value.message
    assert refusal.value.message.startswith("tomovault.yaml:1:")
    assert "geheim" not in problem


def test_where_metrics_are_served(tmp_path):
    for listen, parts in (("127.0.0.1:9464", ("127.0.0.1", 9464)), ("[::1]:0", ("::1", 0))):
        site = parse_site(f"metrics: {{listen: '{listen}'}}", "tomovault.yaml", tmp_path)
        assert split_listen(site.metrics) == parts
    for wrong in ("9464", "localhost", "a:99999", "a b:1"):
        with pytest.raises(UserError, match="is not an address and a port"):
            parse_site(f"metrics: {{listen: '{wrong}'}}", "tomovault.yaml", tmp_path)


# --- templates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_every_shipped_template_can_be_used_and_uses_no_field_that_is_not_given(name, tmp_path):
    path = tmp_path / f"{name}.txt"
    path.write_text(shipped(name), "utf-8")
    check_template(path)
    subject, text = render(tmp_path, name, {field: f"<{field}>" for field in FIELDS[name]})
    assert "$" not in subject + text
    assert bool(subject) is (name not in PARTS)


@pytest.fixture
def own(tmp_path):
    def write(name, text):
        path = tmp_path / "templates" / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("test", "Subject: a\n\n$chanel", r":3: \$chanel is not known here"),
        ("test", "Subject: a\n$", ":2: a \\$ that begins no name"),
        ("test", "a test\n", ":1: the first line is the subject"),
        ("test", b"Subject: \xff", "is not UTF-8"),
        ("tset", "Subject: a", "no message has this name"),
    ],
)
def test_a_wrong_template_is_found_before_it_is_used(own, name, text, problem):
    with pytest.raises(UserError, match=problem):
        check_template(own(name, text))


def test_the_sites_own_template_is_used_and_a_broken_one_stops_no_message(own, tmp_path):
    values = {"site": "ID19", "at": "now", "channel": "mail", "by": "anna"}
    own("test", "Subject: von $site\r\n\r\nHallo $by, das kostet $$5")
    assert render(tmp_path, "test", values) == ("von ID19", "Hallo anna, das kostet $5")
    own("test", "Subject: $no\n")
    assert render(tmp_path, "test", values)[0] == "[ID19] a test of the channel mail"


def test_values_are_text_and_nothing_else(tmp_path):
    evil = {"site": "a\r\nBcc: x@y", "at": "", "channel": "$by ${site} {0.__class__}", "by": "\x1b[31m\udcff"}
    subject, text = render(tmp_path, "test", evil)
    assert "\n" not in subject
    assert "$by ${site} {0.__class__}" in text
    assert "\x1b" not in text
    text.encode("utf-8")


def test_the_templates_of_the_package_are_all_there():
    import tomovault.notify

    shipped_files = Path(tomovault.notify.__file__).parent / "templates"
    assert {p.stem for p in shipped_files.glob("*.txt")} == set(FIELDS)

"""The wait for AWS's notice that it takes a spot machine. What follows: `python tests/cluster faults spot-notice`."""

import threading
from datetime import UTC, datetime
from email.message import Message
from unittest.mock import Mock
from urllib.error import HTTPError

import pytest
from imds import service
from typer.testing import CliRunner

from duel.cluster import notice
from duel.cluster.__main__ import app
from duel.cluster.notice import spot_end, wait_for_notice

END = datetime(2026, 11, 23, 8, 22, tzinfo=UTC)


@pytest.fixture
def told(tmp_path, monkeypatch):
    """The file that is the notice, once it is there."""
    server = service(tmp_path / "notice.json", "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(notice, "METADATA", f"http://127.0.0.1:{server.server_port}/latest")
    monkeypatch.setattr(notice, "EVERY", 0.01)
    yield tmp_path / "notice.json"
    server.shutdown()
    server.server_close()


def test_no_news_is_no_end_and_a_notice_says_when(told):
    assert spot_end() is None
    told.write_text('{"action": "terminate", "time": "2026-11-23T08:22:00Z"}', encoding="utf-8")
    assert spot_end() == END


def test_some_questions_may_go_unanswered(told, monkeypatch):
    busy = HTTPError("", 503, "busy", Message(), None)
    monkeypatch.setattr(notice, "spot_end", Mock(side_effect=[busy, None, OSError("away"), None, END]))
    assert wait_for_notice() == END


def test_a_machine_of_no_cloud_says_so(monkeypatch):
    monkeypatch.setattr(notice, "METADATA", "http://127.0.0.1:9/latest")
    done = CliRunner().invoke(app, ["notice"])
    assert done.exit_code == 1
    assert "http://127.0.0.1:9/latest does not answer: this is no machine of AWS" in done.output


def test_a_notice_without_ray_says_so(told, monkeypatch):
    def nobody(*_, **__):
        raise ConnectionError("no running Ray instance")

    monkeypatch.setattr(notice.ray, "init", nobody)  # the real one would find any Ray at work on this machine
    told.write_text('{"action": "stop", "time": "2026-11-23T08:22:00Z"}', encoding="utf-8")
    done = CliRunner().invoke(app, ["notice"])
    assert done.exit_code == 1
    assert "AWS takes this machine at 2026-11-23 08:22:00 UTC" in done.output
    assert "no Ray can be joined on this machine: no running Ray instance" in done.output

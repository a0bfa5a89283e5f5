"""The data directory: whose it is, and where its sockets go."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cli.up import data_dir as data_dir_module
from cli.up.data_dir import open_data_dir
from cli.up.errors import StartError

PRELUDE = "import pathlib, subprocess\nfrom cli.up.data_dir import open_data_dir\n"


def test_the_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    with open_data_dir(tmp_path / "new" / "data", ephemeral=False) as (layout, _):
        assert layout.data_dir == tmp_path / "new" / "data"
        for directory in (layout.data_dir, layout.run_dir, layout.logs_dir):
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_second_stack_on_the_directory_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    code = f"with open_data_dir(pathlib.Path({str(tmp_path)!r}), ephemeral=False):\n"
    code += "    print('held', flush=True)\n    input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(StartError, match=rf"pid {holder.pid}\) runs on {tmp_path}"),
            open_data_dir(tmp_path, ephemeral=False),
        ):
            pass
        holder.communicate("release\n")
    with open_data_dir(tmp_path, ephemeral=False):
        pass


def test_a_process_left_over_by_a_killed_stack_keeps_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_dir_module, "_LAST_ONES_TIMEOUT_S", 0.1)
    code = f"with open_data_dir(pathlib.Path({str(tmp_path)!r}), ephemeral=False) as (_, lock):\n"
    code += "    print(subprocess.Popen(['sleep', '60'], pass_fds=[lock], stdout=subprocess.DEVNULL).pid)\n"
    ended = subprocess.run([sys.executable, "-c", PRELUDE + code], check=True, stdout=subprocess.PIPE, text=True)
    pid = int(ended.stdout)
    try:
        with (
            pytest.raises(StartError, match="processes of an earlier `nearby up`"),
            open_data_dir(tmp_path, ephemeral=False),
        ):
            pass
    finally:
        subprocess.run(["kill", str(pid)], check=True)
    monkeypatch.undo()
    with open_data_dir(tmp_path, ephemeral=False):
        pass


def test_sockets_go_to_a_temporary_directory_where_their_path_would_be_too_long(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    with open_data_dir(deep, ephemeral=False) as (layout, _):
        run_dir = layout.run_dir
        assert not run_dir.is_relative_to(deep)
        assert len(str(layout.socket("shard-1"))) <= 100
        assert stat.S_IMODE(run_dir.stat().st_mode) == 0o700
    assert not run_dir.exists()


def test_an_ephemeral_directory_is_removed_at_the_end() -> None:
    with open_data_dir(None, ephemeral=True) as (layout, _):
        (layout.data_dir / "users.sqlite").write_text("data")
    assert not layout.data_dir.exists()


def test_a_chosen_directory_stays_even_if_ephemeral(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("not yours")
    with open_data_dir(tmp_path, ephemeral=True):
        pass
    assert (tmp_path / "mine").read_text() == "not yours"


def test_a_path_that_is_no_directory_is_refused_by_its_option(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="--data-dir"), open_data_dir(tmp_path / "file", ephemeral=False):
        pass

"""Disks that are full or read-only, for one child process: the machine's own are left alone."""

import subprocess
import sys

import pytest

# A name space of its own: a mount in it is seen by nobody else, and gone with the process.
PRIVATE = ("unshare", "--map-root-user", "--mount")
MOUNT = {
    "ro": 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"',
    "full": 'mount -t tmpfs -o size="$SIZE" seglib "$1"',
}


def mounted(code, folder, how, *arguments, size="1m", check=True):
    """Run Python code where `folder` is read-only ("ro") or a small disk ("full").

    Returns what it printed; skips the test where the system allows no private mounts.
    """
    try:
        subprocess.run([*PRIVATE, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no private mounts here, which Linux allows to most: {error}")
    shell = f'{MOUNT[how].replace("$SIZE", size)} && shift && exec "$@"'
    done = subprocess.run(
        [*PRIVATE, "sh", "-c", shell, "sh", str(folder), sys.executable, "-c", code,
         *map(str, arguments)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stderr
    return done.stdout

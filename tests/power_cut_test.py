"""The power goes: a file system of its own loses what was not synced, as ext4's shutdown has it, and checker.py finds all that was acknowledged.

The project and its data lie on an ext4 image, mounted; the ioctl EXT4_IOC_SHUTDOWN without a flush of its journal ends it under the running
server. One cut in ten is followed by another one while the server recovers.

A machine without power answers nobody, but this ioctl takes some milliseconds in which the server lives: writes fail already, and a sync that
waits for one of them succeeds all the same. What is answered after it began thus counts as unknown.
"""

import fcntl
import os
import random
import shutil
import struct
import subprocess
import time

import pytest
from checker import Checker

from crash_test import files
from faults import Producer, Told, check_all
from harness import Project
from sizes import SEED, size

SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
IMAGE_MIB = 300
CUTS_OF_A_DISK = 15
CHECK_EVERY = 5


class Disk:
    """An ext4 image, mounted over a loop device."""

    def __init__(self, folder):
        self.image, self.folder = folder / "disk.ext4", folder / "disk"
        self.folder.mkdir()
        with open(self.image, "wb") as file:
            file.truncate(IMAGE_MIB << 20)
        self.run("mkfs.ext4", "-q", "-F", self.image)
        self.mount()

    @staticmethod
    def run(*command):
        subprocess.run(command, check=True, capture_output=True)

    def mount(self):
        self.run("mount", "-o", "loop", self.image, self.folder)

    def cut(self):
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def close(self):
        subprocess.run(["umount", "-l", self.folder], check=False, capture_output=True)

    def again(self):
        """Unmounted, so that nothing of it stays in memory, and mounted anew, which replays its journal."""
        self.run("umount", self.folder)
        self.mount()


def refusal(folder):
    """Why no power can be cut here, or nothing."""
    if os.geteuid() != 0:
        return "mounting needs root"
    if not shutil.which("mkfs.ext4"):
        return "mkfs.ext4 is not installed"
    try:
        disk = Disk(folder)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no ext4 image can be mounted: {getattr(error, 'stderr', b'') or error}"
    try:
        disk.cut()
        disk.again()
    except (OSError, subprocess.CalledProcessError) as error:
        return f"the kernel does not shut a file system down: {error}"
    finally:
        disk.close()
    return ""


@pytest.fixture(scope="module")
def powerless(tmp_path_factory):
    reason = refusal(tmp_path_factory.mktemp("probe"))
    if reason:
        pytest.skip(f"no power cuts: {reason}")


def disks():
    cuts = size("power_cuts")
    return [(first, min(CUTS_OF_A_DISK, cuts - first)) for first in range(0, cuts, CUTS_OF_A_DISK)]


@pytest.mark.parametrize("first,cuts", disks())
def test_a_power_cut_loses_and_doubles_nothing(powerless, tmp_path, first, cuts):
    rng, told = random.Random(f"{SEED} {first}"), Told()
    print(f"MILLSTREAM_FAULT_SEED={SEED}, cuts {first} to {first + cuts - 1}")
    disk = Disk(tmp_path)
    shop = Project(disk.folder / "project", files(rng, 0))
    os.sync()
    checker, second = Checker(shop.data, told), 0
    stderr = tmp_path / "stderr"

    def server():
        made = shop.server()
        made.stderr_path = stderr
        return made
    try:
        for number in range(1, cuts + 1):
            running = server().start()
            producers = [Producer(running, told, f"{name}{number}", random.Random(f"{SEED} {first} {name}{number}")) for name in "abcd"]
            for producer in producers:
                producer.start()
            time.sleep(rng.uniform(0.05, 0.6))
            if rng.random() < 0.3:
                shop.write(files(rng, number))
                shop.verb("apply", "--yes", expect=None)
            told.power_is_off.set()
            disk.cut()
            running.kill()
            for producer in producers:
                producer.join()
            told.power_is_off.clear()
            disk.again()
            if rng.random() < 0.1:
                second += 1
                recovering = server().start(wait_ready=False)
                time.sleep(rng.uniform(0.005, 0.3))
                disk.cut()
                recovering.kill()
                disk.again()
            if number % CHECK_EVERY == 0 or number == cuts:
                with server() as again:
                    check_all(shop, again, told, checker)
                assert shop.verb("verify", "--log").code == 0
        print(f"{cuts} cuts, {second} in a recovery, {len(told.acknowledged)} acknowledged, {len(told.unknown)} unknown")
        assert len(told.acknowledged) > 10 * cuts
    except BaseException:
        print(stderr.read_text(errors="replace")[-4000:] if stderr.exists() else "")
        raise
    finally:
        shop.close()
        disk.close()

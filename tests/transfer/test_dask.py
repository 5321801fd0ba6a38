"""The shards of a plan on a real cluster of Dask, here of two worker processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# In a process of its own, since a cluster starts threads and event loops that outlive it.
SCRIPT = """
import sys
from dask.distributed import Client, LocalCluster
from holdall import FilesystemStore, SqliteStore
from holdall.transfer import copy_store, sync_stores

if __name__ == "__main__":
    place = sys.argv[1]
    source, target = FilesystemStore(place + "/source"), FilesystemStore(place + "/target")
    blobs = {f"a/{index:04}": b"%d" % index for index in range(500)}
    source.put_many(blobs)
    target.put_many({"a/0001": b"old", "gone": b""})
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        report = sync_stores(source, target, executor=client, max_delete=1.0)
        assert (report.copied, report.deleted, report.ok) == (500, 1, True), report
        assert dict(target.items()) == blobs
        again = FilesystemStore(place + "/again")
        assert copy_store(source, again, executor=client.get_executor()).copied == 500
        plan = copy_store(source, SqliteStore(place + "/blobs.db"), dry_run=True)
        done = client.gather([client.submit(shard) for shard in plan.shards(4)])
        assert sum(part.copied for part in done) == 500
    print("done")
"""


def test_a_client_of_dask_runs_the_shards(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ran = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert ran.stdout.strip() == "done", ran.stderr

"""A disk that is full when a model's image is to be written for all sessions."""

import os
import subprocess
import unittest

import house


class FullDiskTest(unittest.TestCase):
    """The images' directory is a file system of 128 kB for the time of the test."""

    def setUp(self):
        self.database = self.enterContext(house.Database("full_disk"))
        directory = self.database.value("SHOW data_directory")
        owner = os.stat(directory) if os.geteuid() == 0 else None
        if owner is None:
            self.skipTest("only root can mount a small file system: run scripts/check as root")
        directory = os.path.join(directory, "base", "pgsql_tmp")
        if not os.path.isdir(directory):
            os.mkdir(directory, 0o700)
            os.chown(directory, owner.st_uid, owner.st_gid)
        options = "size=128k,mode=700,uid=%d,gid=%d" % (owner.st_uid, owner.st_gid)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], capture_output=True).returncode != 0:
            self.skipTest("this machine does not let root mount a file system: run scripts/check where it does")
        self.addCleanup(subprocess.run, ["umount", "-l", directory], capture_output=True)
        self.directory = directory

    def test_the_disk_is_full(self):
        self.database.execute(
            "CREATE TABLE customers AS SELECT i::float8 AS x, repeat(md5((i % 300)::text), 16) AS name, i % 7 = 0 AS label FROM generate_series(1, 900) AS i",
            "SELECT visage_train('large', 'SELECT name, label FROM customers', algorithm => 'logistic', split => '{}', deploy => 'always')",
            "SELECT visage_train('small', 'SELECT x, label FROM customers', algorithm => 'logistic', split => '{}', deploy => 'always')")
        large, small = "SELECT visage_score('large', c) FROM customers AS c LIMIT 1", "SELECT visage_score('small', 1::float8)"
        self.assertGreater(self.database.value("SELECT max(length(image)) FROM visage.model_images"), 130000)
        with self.database.connect() as connection:
            for _ in range(2):
                with self.assertRaises(house.psycopg.errors.DiskFull):
                    connection.execute(large)
                self.assertEqual([name for name in os.listdir(self.directory) if "visage" in name], [], "what was written of it is gone")
            self.assertIsNotNone(connection.execute(small).fetchone()[0])
            subprocess.run(["umount", "-l", self.directory], check=True)
            self.assertIsNotNone(connection.execute(large).fetchone()[0])
            self.assertIsNotNone(connection.execute(small).fetchone()[0])


if __name__ == "__main__":
    unittest.main()

"""The register by dlt: its REST source, its PostgreSQL destination.

	ingest_dlt.py URL PAGE HOST PORT DIRECTORY

Settings are the fastest that were found: COPY of CSV files (loader_file_format
csv) instead of INSERT, append instead of merge, no nesting, types given, no
telemetry; extraction in pages as large as the other sides'.  Ends with the
seconds that pipeline.run took.
"""

import os
import sys
import time

os.environ.update(RUNTIME__DLTHUB_TELEMETRY="false", RUNTIME__LOG_LEVEL="ERROR", NORMALIZE__WORKERS="2", DATA_WRITER__BUFFER_MAX_ITEMS="20000",
                  NORMALIZE__DATA_WRITER__DISABLE_COMPRESSION="true", EXTRACT__DATA_WRITER__DISABLE_COMPRESSION="true")

import dlt
from dlt.sources.rest_api import rest_api_source

TIMESTAMPS = ("dba_start_date", "dba_end_date", "location_start_date", "location_end_date")


def main():
    url, page, host, port, directory = sys.argv[1:]
    source = rest_api_source({
        "client": {"base_url": url, "paginator": {"type": "offset", "limit": int(page), "offset": 0, "limit_param": "$limit", "offset_param": "$offset", "total_path": None, "stop_after_empty_page": True}},
        "resources": [{
            "name": "businesses", "write_disposition": "append", "max_table_nesting": 0,
            "columns": {"location": {"data_type": "json"}, **{name: {"data_type": "timestamp", "timezone": False} for name in TIMESTAMPS}},
            "endpoint": {"path": "resource/g8m3-pdis.json", "params": {"$select": ":*,*", "$order": ":id"}}}]})
    pipeline = dlt.pipeline("bench", pipelines_dir=directory, dataset_name="dlt", destination=dlt.destinations.postgres(
        {"drivername": "postgresql", "database": "bench", "username": "postgres", "password": "none", "host": "localhost", "port": int(port), "query": {"host": host}}), dev_mode=False)
    start = time.perf_counter()
    pipeline.run(source, loader_file_format="csv")
    print("seconds", time.perf_counter() - start)


if __name__ == "__main__":
    main()

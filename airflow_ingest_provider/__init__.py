"""Bulk-loads data into PostgreSQL tables defined with SQLAlchemy. Nothing here imports Airflow."""

from airflow_ingest_provider.core.errors import (
    BatchError,
    ConcurrentIngestError,
    DefinitionError,
    IngestError,
    LockNotAcquired,
    RowError,
)
from airflow_ingest_provider.core.ingest import ingest
from airflow_ingest_provider.core.options import Delete, HighWatermark, Migrate, Replace, Upsert, Visibility
from airflow_ingest_provider.core.plan import IngestPlan, TablePlan
from airflow_ingest_provider.core.preview import ingest_plan
from airflow_ingest_provider.core.result import IngestResult, TableResult

__version__ = "0.1.0"

__all__ = [
    "BatchError",
    "ConcurrentIngestError",
    "DefinitionError",
    "Delete",
    "HighWatermark",
    "IngestError",
    "IngestPlan",
    "IngestResult",
    "LockNotAcquired",
    "Migrate",
    "Replace",
    "RowError",
    "TablePlan",
    "TableResult",
    "Upsert",
    "Visibility",
    "__version__",
    "ingest",
    "ingest_plan",
]

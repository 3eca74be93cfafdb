"""What Airflow asks a provider for."""

from typing import Any

INTEGRATION = "PostgreSQL ingest"


def get_provider_info() -> dict[str, Any]:
    """The provider's names. The connection type and the asset schemes are those of the postgres provider."""
    return {
        "package-name": "airflow-ingest-provider",
        "name": INTEGRATION,
        "description": "Bulk-loads data into PostgreSQL tables defined with SQLAlchemy.",
        "integrations": [
            {
                "integration-name": INTEGRATION,
                "external-doc-url": "https://www.postgresql.org/",
                "tags": ["software"],
            }
        ],
        "hooks": [
            {"integration-name": INTEGRATION, "python-modules": ["airflow_ingest_provider.hooks.ingest"]},
        ],
        "operators": [
            {"integration-name": INTEGRATION, "python-modules": ["airflow_ingest_provider.operators.ingest"]},
        ],
        "task-decorators": [
            {"name": "ingest", "class-name": "airflow_ingest_provider.decorators.ingest.ingest_task"},
        ],
    }

"""The demo: a private PostgreSQL server, and the flights DAG run on it through Airflow."""

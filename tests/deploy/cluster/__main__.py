import sys

from . import database, docs, dry_runs, manifests, publish, report, scripts, terraform

results = report.Report()
terraform.checks(results)
manifests.checks(results)
scripts.checks(results)
dry_runs.checks(results, update="--update" in sys.argv)
publish.checks(results)
database.checks(results)
docs.checks(results)
sys.exit(0 if results.summary() else 1)

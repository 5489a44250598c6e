"""``python -m ssm_analysis`` is ``ssm-analysis``."""

from ssm_analysis.cli import main

raise SystemExit(main())

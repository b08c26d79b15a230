"""Makes `smtp_dialogue`, the player of the vectors, importable for the tests beside it."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

import sys
from pathlib import Path

import pytest
import trustme

sys.path.insert(0, str(Path(__file__).parent.parent / "engine" / "submission"))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """Certificate and key files for localhost."""
    folder = tmp_path_factory.mktemp("tls")
    issued = trustme.CA().issue_cert("localhost", "127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "both.pem"))
    return folder / "both.pem", folder / "both.pem"

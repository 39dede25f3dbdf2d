from .client.async_client import AsyncClient as AsyncClient
from .client.client import Client as Client
from .control.deploy import deploy as deploy
from .security.credentials import Credentials as Credentials
from .security.doors import Doors as Doors
from .sources.loading import load_model as load_model
from .spec.ensemble import EnsembleSpec as EnsembleSpec
from .spec.fields.fusion import FusionSpec as FusionSpec
from .spec.files import load_spec as load_spec
from .spec.files import parse_spec as parse_spec
from .spec.files import save_spec as save_spec
from .spec.schema import MemberSpec as MemberSpec

__all__: list[str]

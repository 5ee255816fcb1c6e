"""The engines behind their contracts, and the client that asks them. Never used for load."""

from hotfire.runtimes.contract import Contract
from hotfire.runtimes.llamacpp import LLAMACPP
from hotfire.runtimes.ollama import OLLAMA
from hotfire.runtimes.tgi import TGI
from hotfire.runtimes.tiny import TINY
from hotfire.runtimes.trtllm import TRTLLM
from hotfire.runtimes.vllm import VLLM

CONTRACTS = {contract.name: contract for contract in (LLAMACPP, VLLM, OLLAMA, TGI, TRTLLM, TINY)}


def contract_of(name: str) -> Contract:
    """The contract of a scenario's `runtime`; KeyError for a name the scenario model would refuse."""
    return CONTRACTS[name]

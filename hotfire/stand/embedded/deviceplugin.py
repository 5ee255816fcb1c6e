"""Simulated GPUs over the kubelet's real device-plugin API (v1beta1). Runs as a process of its GPU node.

Allocation sets `NVIDIA_VISIBLE_DEVICES`, as NVIDIA's plugin does. A device is unhealthy while a file of its name lies
in the folder `--unhealthy`. The kubelet empties its plugin folder when it starts: a socket of ours that has gone, or a
new kubelet socket, means serve and register again.
"""

import argparse
import contextlib
import threading
from collections.abc import Iterator, Sequence
from concurrent import futures
from pathlib import Path

import grpc  # type: ignore[import-untyped]

from hotfire.stand.embedded import plan
from hotfire.stand.embedded.api import deviceplugin_pb2 as api
from hotfire.stand.embedded.api import deviceplugin_pb2_grpc as rpc

SOCKET = "hotfire-gpu.sock"
TICK = 0.2


class SimulatedGpus(rpc.DevicePluginServicer):
    """Lists the devices with their health and grants those the kubelet picks."""

    def __init__(self, devices: Sequence[str], unhealthy: Path) -> None:
        self._devices, self._unhealthy = devices, unhealthy
        self.stopping = threading.Event()

    def health(self) -> tuple[tuple[str, str], ...]:
        """(id, Healthy or Unhealthy) of each device, now."""
        return tuple((d, "Unhealthy" if (self._unhealthy / d).exists() else "Healthy") for d in self._devices)

    def GetDevicePluginOptions(self, request: api.Empty, context: grpc.ServicerContext) -> api.DevicePluginOptions:
        """Neither a call before start nor a preferred allocation."""
        return api.DevicePluginOptions()

    def ListAndWatch(self, request: api.Empty, context: grpc.ServicerContext) -> Iterator[api.ListAndWatchResponse]:
        """The list at once, and again when a device's health changes."""
        told: tuple[tuple[str, str], ...] | None = None
        while context.is_active() and not self.stopping.is_set():
            if (now := self.health()) != told:
                told = now
                yield api.ListAndWatchResponse(devices=[api.Device(ID=d, health=h) for d, h in now])
            self.stopping.wait(TICK)

    def Allocate(self, request: api.AllocateRequest, context: grpc.ServicerContext) -> api.AllocateResponse:
        """Each container sees what it was granted, by id."""
        return api.AllocateResponse(
            container_responses=[
                api.ContainerAllocateResponse(envs={"NVIDIA_VISIBLE_DEVICES": ",".join(container.devices_ids)})
                for container in request.container_requests
            ]
        )


def serve(folder: Path, gpus: SimulatedGpus) -> None:
    """Serve and register once; returns when kubelet or socket is no longer the one it was."""
    kubelet, own = folder / "kubelet.sock", folder / SOCKET
    own.unlink(missing_ok=True)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    rpc.add_DevicePluginServicer_to_server(gpus, server)  # type: ignore[no-untyped-call]  # generated code
    server.add_insecure_port(f"unix://{own}")
    server.start()
    try:
        identity = kubelet.stat().st_ino
        with grpc.insecure_channel(f"unix://{kubelet}") as channel:
            request = api.RegisterRequest(version="v1beta1", endpoint=SOCKET, resource_name=plan.GPU)
            stub = rpc.RegistrationStub(channel)  # type: ignore[no-untyped-call]  # generated code
            stub.Register(request, timeout=5)
        while own.exists() and kubelet.stat().st_ino == identity:
            gpus.stopping.wait(TICK)
    finally:
        gpus.stopping.set()
        server.stop(grace=0).wait()
        gpus.stopping.clear()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until killed, across restarts of the kubelet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="the kubelet's device-plugins folder")
    parser.add_argument("--unhealthy", type=Path, required=True, help="folder whose file names are unhealthy devices")
    parser.add_argument("devices", nargs="+", help="ids of the devices")
    options = parser.parse_args(arguments)
    gpus = SimulatedGpus(options.devices, options.unhealthy)
    pause = threading.Event()
    while True:
        with contextlib.suppress(grpc.RpcError, FileNotFoundError):  # no kubelet yet, or it has just gone
            serve(options.folder, gpus)
        pause.wait(TICK)


if __name__ == "__main__":
    main()

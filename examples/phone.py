"""A phone: python examples/phone.py HANDLE PASSWORD LATITUDE LONGITUDE"""

import asyncio
import sys

from nearby_client import NearbyApi, NearbyClient


async def main(handle: str, password: str, lat: str, lon: str) -> None:
    async with NearbyApi("http://127.0.0.1:8080") as api:
        account = await api.log_in(handle, password)
        names = {friend.user_id: friend.display_name for friend in await account.friends()}
        async with NearbyClient(api, account.token) as phone:
            phone.report(float(lat), float(lon))
            async for _ in phone.events():
                print([f"{names.get(f.user_id, f.user_id)}: {f.distance_m} m" for f in phone.friends.values()])


asyncio.run(main(*sys.argv[1:]))

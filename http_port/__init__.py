"""HTTP ports of our processes: an ASGI application on uvicorn, and the health and metrics that each serves."""

"""A black box prober: synthetic friends on every pair of gateways, who measure how long each takes to see the other.

It knows the REST API and the wire protocol, and nothing of what is behind them.
"""

# Writes the configuration of this server of the cache, once: afterwards the role in it is what the Sentinels made it.
set -eu
[ ! -e /data/valkey.conf ] || exit 0
{
    echo "include /etc/valkey/cache.conf"
    echo "masterauth $REPLICA_PASSWORD"
    echo "replica-announce-ip $POD_ADDRESS"
    if [ "$POD_NAME" != nearby-cache-0 ]; then
        echo "replicaof nearby-cache-0.nearby-cache 6379"
    fi
} > /data/valkey.conf.new
mv /data/valkey.conf.new /data/valkey.conf

# Writes the configuration of this Sentinel, once: afterwards it keeps in it what it has learnt.
set -eu
[ ! -e /data/sentinel.conf ] || exit 0
{
    cat /etc/valkey/sentinel.conf
    echo "sentinel auth-pass nearby $SENTINEL_PASSWORD"
    echo "sentinel announce-ip $POD_ADDRESS"
    echo "sentinel announce-port 26379"
} > /data/sentinel.conf.new
mv /data/sentinel.conf.new /data/sentinel.conf

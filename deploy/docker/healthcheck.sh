#!/bin/bash
# Whether the program in this container answers: healthy when GET /health is 200 on one of the ports that its commands open
# (learner and rollout with --health, retriever, dashboard). Needs nothing but bash.
set -u
for port in ${MEM1_HEALTH_PORTS:-8081 8000 5080}; do
    if { exec 3<> "/dev/tcp/127.0.0.1/$port"; } 2> /dev/null; then
        printf 'GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
        IFS= read -r -t 4 status <&3
        exec 3>&-
        [[ $status == 'HTTP/1.1 200'* ]] && exit 0
    fi
done
exit 1

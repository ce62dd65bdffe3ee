#!/bin/bash
# Whether GET /health on port $1 of this pod is answered with 200.
set -u
{ exec 3<> "/dev/tcp/127.0.0.1/$1"; } 2> /dev/null || exit 1
printf 'GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
IFS= read -r -t 4 status <&3 || exit 1
[[ $status == 'HTTP/1.1 200'* ]]

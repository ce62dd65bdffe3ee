#!/usr/bin/env bash
# screenshots.sh: makes the pictures of every view in docs/img anew, from the recorded run, at desktop and phone width. Needs chromium, Node.js
# and npm, like the tests; the tests make the pictures, and fail where a view is not as it should be.
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../.."
mkdir -p docs/img
MEM1_SCREENSHOTS=$PWD/docs/img dotnet run -c Release --project tests/Mem1.Dashboard.Tests -- \
    -method 'Mem1.Dashboard.Tests.BrowserTests.A_view_shows_the_recorded_run_at_every_width_and_in_both_themes'
ls -l docs/img/dashboard-*.png

# In the guest, after TESTS, MANIFEST and the words that choose tests: runs the end-to-end tests.
#
# An emulated processor is four to twenty times as slow as this machine's, hence the patience. Whether an exposition is
# well formed is judged on the host, where the judges are.
export EXPORTER_BIN=/in/bin/docker-stats-exporter PATIENCE=10 JUDGES=none
# Tests that run at the same time hold pipes and sockets of some hundred processes each.
ulimit -S -n 16384
# More than there are processors: much of a test is waiting for an engine that waits for its shims.
export RUST_TEST_THREADS=4
# The tests were built on another machine, and look for captured hosts where their sources were.
mkdir -p "$(dirname "$MANIFEST")"
ln -sfn /in/tests "$MANIFEST"
uname -sr
docker version --format 'Docker {{.Server.Version}}, API {{.Server.APIVersion}}'
# What looks at captured hosts alone says the same on every machine.
set -- "$@" --skip files:: --skip hostile::
failed=
for test in $TESTS; do
    echo "== $test (after $(cut -d' ' -f1 /proc/uptime) s)"
    /in/bin/"$test" "$@" || failed="$failed $test"
done
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }

#!/bin/bash
# Runs a command in a Slurm cluster of this one machine, which lives as long:
# munge, controller and node daemon of its own, in a temporary folder.
#
#   one_node_slurm.sh COMMAND [ARGUMENT...]
#   one_node_slurm.sh --why-not   why that cannot be done here; nothing if it can
#
# SLURM_CONF is set for the command, so that its srun finds the cluster.
set -euo pipefail

why_not() {
  local program
  for program in srun slurmctld slurmd munged; do
    if ! PATH=$PATH:/usr/sbin command -v $program >/dev/null; then
      echo "there is no $program here; Debian has Slurm in slurm-wlm and munge"
      return
    fi
  done
  if [[ $EUID -ne 0 ]]; then
    echo "Slurm's daemons need root"
  fi
}

if [[ ${1-} == --why-not ]]; then
  why_not
  exit
fi
export PATH=$PATH:/usr/sbin

folder=$(mktemp -d)
daemons=()
end() {
  kill "${daemons[@]}" 2>/dev/null || true
  wait "${daemons[@]}" 2>/dev/null || true
  rm -rf "$folder"
}
trap end EXIT

# Two ports that are free now.
read -r port1 port2 < <(python3 - <<'END'
import socket
ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(port.getsockname()[1] for port in ports))
END
)
host=$(uname -n)
host=${host%%.*}
chmod 711 "$folder"  # munge insists
mkdir "$folder/state" "$folder/spool"
cat >"$folder/slurm.conf" <<END
ClusterName=one_node
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port1
SlurmdPort=$port2
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
SlurmUser=root
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SchedulerType=sched/builtin
SelectType=select/linear
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=1 State=UNKNOWN
PartitionName=all Nodes=$host Default=YES State=UP
END
export SLURM_CONF=$folder/slurm.conf

head -c 1024 /dev/urandom >"$folder/key"
chmod 400 "$folder/key"
munged --foreground --force --key-file="$folder/key" \
  --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
  --log-file="$folder/munged.log" --seed-file="$folder/seed" \
  >"$folder/munged.out" 2>&1 &
daemons+=($!)
for ((i = 0; i < 500; ++i)); do
  if [[ -S $folder/munge.socket ]]; then
    break
  fi
  sleep 0.02
done
slurmctld -D >"$folder/slurmctld.log" 2>&1 &
daemons+=($!)
slurmd -D >"$folder/slurmd.log" 2>&1 &
daemons+=($!)
# srun would wait for seconds where the node is not there yet.
for ((i = 0; i < 500; ++i)); do
  if [[ $(sinfo --noheader --format=%T 2>/dev/null) == idle ]]; then
    break
  fi
  sleep 0.02
done

status=0
"$@" || status=$?
if [[ $status -ne 0 ]]; then
  tail -n 5 "$folder"/*.log >&2
fi
exit $status

#!/bin/bash
# Runs a command as ranks on two hosts, `left` and `right`, that are namespaces
# of this machine: each has its own name and network, and a cable to a switch.
#
#   two_hosts.sh RANKS COMMAND [ARGUMENT...]
#   two_hosts.sh --mpirun RANKS COMMAND [ARGUMENT...]
#   two_hosts.sh --why-not   why that cannot be done here; nothing if it can
#   two_hosts.sh --cut       in a rank: pulls the cable of `right` out of the
#                            switch
#
# The first half of the ranks, rounded up, is on `left`. Each has its place in
# COLONNADE_RANK and its kin, or is started by Open MPI, from `left`. Its output
# goes where that of the script does. Nothing outlives the script, however it
# ends.
set -euo pipefail

namespaces=(unshare --net --uts --pid --fork --mount-proc --kill-child)
if [[ $EUID -ne 0 ]]; then
  namespaces+=(--map-root-user)
fi

case ${1-} in
  --why-not)
    if ! PATH=$PATH:/usr/sbin command -v ip >/dev/null; then
      echo "there is no ip here; Debian has it in iproute2"
    elif ! error=$("${namespaces[@]}" true 2>&1); then
      echo "this machine allows no namespaces: $error"
    elif ! error=$("${namespaces[@]}" env PATH="$PATH:/usr/sbin" \
      ip link add dev one type veth peer name two 2>&1); then
      echo "this machine allows no virtual network: $error"
    fi
    exit
    ;;
  --cut)
    exec nsenter --target 1 --net env PATH="$PATH:/usr/sbin" \
      ip link set to_right down
    ;;
  --enter) # for mpirun, as it would call ssh: HOST COMMAND...
    holder=HOLDER_OF_${2##*.}
    exec nsenter --target "${!holder}" --net --uts bash -c "${*:3}"
    ;;
  --inside) shift ;;
  *) exec "${namespaces[@]}" "$0" --inside "$@" ;;
esac

# In the namespaces: this is the switch.
export PATH=$PATH:/usr/sbin
by_mpirun=
if [[ $1 == --mpirun ]]; then
  by_mpirun=yes
  shift
fi
ranks=$1
shift
ip link add switch type bridge
ip link set switch up
declare -A holders
number=0
for host in left right; do
  number=$((number + 1))
  # Says its number when it is in its namespaces.
  exec {holder}< <(exec unshare --net --uts bash -c 'echo $$; exec sleep inf')
  read -r -u "$holder" holders[$host]
  ip link add to_$host type veth peer name cable \
    netns "${holders[$host]}"
  ip link set to_$host master switch up
  nsenter --target "${holders[$host]}" --net --uts bash -ec "
    hostname $host
    ip link set lo up
    ip address add 10.0.0.$number/24 dev cable
    ip link set cable up"
done

if [[ $by_mpirun ]]; then
  export HOLDER_OF_1=${holders[left]} HOLDER_OF_2=${holders[right]}
  slots=$(((ranks + 1) / 2))
  exec nsenter --target "${holders[left]}" --net --uts \
    mpirun --allow-run-as-root --host 10.0.0.1:$slots,10.0.0.2:$slots \
    -n "$ranks" --bind-to none -x COLONNADE_MASTER=10.0.0.1:29400 \
    -x COLONNADE_INTERFACE=cable --mca plm_rsh_agent "$0 --enter" \
    --mca oob_tcp_if_include cable --mca btl_tcp_if_include cable \
    --mca btl self,tcp "$@"
fi

processes=()
first_on_right=$(((ranks + 1) / 2))
for ((rank = 0; rank < ranks; ++rank)); do
  if ((rank < first_on_right)); then
    host=left local_size=$first_on_right
  else
    host=right local_size=$((ranks - first_on_right))
  fi
  COLONNADE_RANK=$rank COLONNADE_WORLD_SIZE=$ranks \
    COLONNADE_LOCAL_WORLD_SIZE=$local_size \
    COLONNADE_MASTER=10.0.0.1:29400 COLONNADE_INTERFACE=cable \
    nsenter --target "${holders[$host]}" --net --uts "$@" &
  processes+=($!)
done
status=0
for process in "${processes[@]}"; do
  wait "$process" || status=$?
done
exit $status

#!/bin/bash
# The first process of a lab host (see lab.py): its own file systems where hosts must differ, then sshd.
# NAME, FOLDER (keys, logs), VENV (packages that every host has, as a machine image would) and PYTHON (the folder of its
# interpreter) come as environment.
set -euo pipefail
root=~root
mount --make-rprivate /
hostname "$NAME"
mount -t proc proc /proc
mount -t tmpfs -o size=8g tmpfs /dev/shm
mkdir -p /tmp/ray /run/sshd
mount -t tmpfs -o size=2g tmpfs /tmp/ray
mount -t tmpfs tmpfs /run/sshd
chmod 755 /run/sshd

home=$FOLDER/hosts/$NAME  # the host's disk: it outlives a reboot
mkdir -p "$home"/{.ssh,.config/pip,duel-env,.layer/upper,.layer/work}
chmod 700 "$home" "$home/.ssh"
install -m 600 "$FOLDER/keys/id.pub" "$home/.ssh/authorized_keys"
# Hosts reach no package index: what the set-up commands install beyond the image comes from here.
printf '[install]\nno-index = true\nfind-links = %s\n' "$FOLDER/wheels" > "$home/.config/pip/pip.conf"
mount -t overlay overlay -o "lowerdir=$VENV,upperdir=$home/.layer/upper,workdir=$home/.layer/work" "$home/duel-env"
# A virtual environment's scripts name the interpreter of the place it was made in.
grep -rIl "^#!$VENV/bin/python" "$VENV/bin" | while read -r script; do
    sed -i "1s#^.*#\#!$root/duel-env/bin/python#" "$home/duel-env/bin/$(basename "$script")"
done
if [ ! -e "$home/.bashrc" ]; then
    printf '%s\n' 'export PATH=$HOME/duel-env/bin:$PATH RAY_USAGE_STATS_ENABLED=0 PYTHONDONTWRITEBYTECODE=1' \
        "${HOST_ENVIRONMENT:-}" > "$home/.bashrc"
    cp "$home/.bashrc" "$home/.bash_profile"
fi
if [[ $PYTHON = "$root"/* ]]; then  # about to be hidden by the host's own home
    mkdir -p "$home/${PYTHON#"$root"/}"
    mount --bind "$PYTHON" "$home/${PYTHON#"$root"/}"
fi
mount --rbind "$home" "$root"

export HOME=$root
cd /
/usr/sbin/sshd -D -e -f /dev/null -p 22 -h "$FOLDER/keys/host" -o UsePAM=no -o PidFile=none -o MaxStartups=100 \
    -o PermitRootLogin=prohibit-password -o PasswordAuthentication=no 2> "$FOLDER/logs/sshd-$NAME" &
while :; do  # a first process reaps what others leave behind
    wait || true
    sleep 1000 & wait $! || true
done

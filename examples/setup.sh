# shellcheck shell=bash
# Set-up for a fresh Debian 12, to be sourced:  . examples/setup.sh;  setup node respin
#
# Installs what is missing by apt (as root, or through sudo) and makes the virtual environment .venv in the checkout.
# The second run finds everything there and takes well under a second. On another distribution, or without root and
# sudo, install the packages by hand; the functions then only look.
#
# What            Debian 12                                  EL 9 / Fedora (EPEL where EL lacks it)
# --------------  -----------------------------------------  ----------------------------------------------------
# respin          python3 python3-venv python3-rpm rpm       python3 python3-rpm rpm rpm-sign
#                 gnupg gpgv e2fsprogs fuse3 fuse2fs         gnupg2 e2fsprogs fuse3 fuse2fs (e2fsprogs-fuse2fs)
#                 uidmap util-linux kmod libarchive13        shadow-utils util-linux kmod libarchive
#                 squashfuse                                 squashfuse
# example Node    mmdebstrap debian-archive-keyring          mmdebstrap debian-keyring
#                 squashfs-tools genisoimage isomd5sum       squashfs-tools genisoimage isomd5sum
#                 isolinux syslinux-common syslinux-utils    syslinux syslinux-nonlinux
#                 grub-efi-amd64-bin grub-common             grub2-efi-x64-modules grub2-tools
#                 mtools dosfstools                          mtools dosfstools
# example driver  linux-headers-amd64 gcc-12 make            (needs Debian's kernel headers)
#                 libelf1 libc6-dev                          elfutils-libelf glibc-devel
# boot, tests     qemu-system-x86 ovmf ipxe-qemu pxelinux    qemu-kvm-core edk2-ovmf ipxe-roms-qemu
# tests           xorriso libarchive-tools gdisk cpio jq     xorriso bsdtar gdisk cpio jq
#                 p7zip-full grub-pc-bin                     7zip grub2-pc-modules
#                 gcc python3-dev liblzo2-dev                gcc python3-devel lzo-devel
#                 erofs-utils db5.3-util strace              erofs-utils libdb-utils strace

CHECKOUT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$CHECKOUT/.venv
export CHECKOUT VENV

packages_respin="python3 python3-venv python3-rpm rpm gnupg gpgv e2fsprogs fuse3 fuse2fs uidmap util-linux kmod
    libarchive13 squashfuse"
packages_node="mmdebstrap debian-archive-keyring squashfs-tools genisoimage isomd5sum isolinux syslinux-common
    syslinux-utils grub-efi-amd64-bin grub-common mtools dosfstools"
packages_driver="gcc-12 make libelf1 libc6-dev"
packages_boot="qemu-system-x86 ovmf ipxe-qemu pxelinux"
packages_test="xorriso libarchive-tools gdisk cpio jq p7zip-full grub-pc-bin gcc python3-dev liblzo2-dev
    erofs-utils db5.3-util strace"

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# The kernel of the example Node: what Debian's meta package for kernels names today.
node_kernel_release() {
    LC_ALL=C apt-cache depends linux-image-amd64 2>/dev/null |
        sed -n 's/^ *Depends: linux-image-\([0-9].*\)$/\1/p' | head -n 1
}

# Of the packages named, those that are not installed.
missing_packages() {
    local installed package
    installed=" $(dpkg-query -W -f '${Package} ${Status}\n' "$@" 2>/dev/null |
        sed -n 's/ install ok installed$//p' | tr '\n' ' ') "
    for package; do
        case $installed in *" $package "*) ;; *) printf '%s ' "$package" ;; esac
    done
}

# Run a command as root: directly, or through sudo.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

can_be_root() { [ "$(id -u)" = 0 ] || command -v sudo >/dev/null; }

apt_quietly() {
    as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a APT_LISTCHANGES_FRONTEND=none \
        apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" </dev/null
}

update_package_lists() {
    say "apt-get update"
    apt_quietly update >/dev/null ||
        warn "apt-get update had errors (perhaps a third-party source); going on with the lists there are"
}

install_packages() {
    local missing
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    can_be_root || die "these packages are missing, and there is neither root nor sudo here to install them: $missing"
    [ -n "${lists_updated:-}" ] || update_package_lists
    lists_updated=yes
    say "installing Debian packages: $missing"
    # shellcheck disable=SC2086  # a list of names
    apt_quietly install --no-install-recommends $missing >"${TMPDIR:-/tmp}/respin-apt.$$.log" 2>&1 || {
        tail -n 30 "${TMPDIR:-/tmp}/respin-apt.$$.log" >&2
        die "apt-get install failed"
    }
    rm -f "${TMPDIR:-/tmp}/respin-apt.$$.log"
}

# The rpm bindings belong to the system's interpreter: a Python of pyenv or conda that comes first in PATH cannot
# import them. The stamp says which setup.cfg and which extras the environment was made for.
make_venv() {
    local extras=$1 stamp_file stamp
    stamp_file=$VENV/.setup${extras:+-${extras//,/-}}
    stamp=$(cat "$CHECKOUT/setup.cfg" "$CHECKOUT/pyproject.toml" | sha256sum | cut -d ' ' -f 1)
    if [ "$(cat "$stamp_file" 2>/dev/null)" = "$stamp" ] && "$VENV/bin/python" -c 'import respin, rpm' 2>/dev/null; then
        return 0
    fi
    say "making the virtual environment .venv (Python packages from the configured index; half a minute)"
    [ -x "$VENV/bin/python" ] || /usr/bin/python3 -m venv --clear "$VENV"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -e "$CHECKOUT${extras:+[$extras]}"
    "$VENV/bin/python" -c 'import respin, rpm' ||
        die "the virtual environment cannot import rpm: is python3-rpm of this system's Python installed?"
    echo "$stamp" >"$stamp_file"
}

# setup WHAT...: any of respin, node, boot, test.
setup() {
    local wanted=() extras='' what release
    for what; do
        case $what in
            respin) wanted+=($packages_respin) ;;
            node) wanted+=($packages_node $packages_driver) ;;
            boot) wanted+=($packages_boot) ;;
            test)
                wanted+=($packages_test)
                extras=test,lint
                ;;
            *) die "setup: unknown part: $what" ;;
        esac
    done
    if command -v dpkg-query >/dev/null; then
        if [ -n "$(missing_packages "${wanted[@]}")" ] && can_be_root; then
            say "set-up for: $* (Debian packages and Python packages; one to four minutes on a fresh system)"
        fi
        install_packages "${wanted[@]}"
        case " $* " in
            *' node '*)
                release=$(node_kernel_release)
                if [ -z "$release" ] && can_be_root; then
                    update_package_lists
                    release=$(node_kernel_release)
                fi
                [ -n "$release" ] || die "apt knows no package linux-image-amd64: run 'apt-get update' as root"
                install_packages "linux-headers-$release"
                ;;
        esac
    else
        warn "this is no Debian system: install the packages that $CHECKOUT/examples/setup.sh lists by hand"
    fi
    case " $* " in *' respin '*) make_venv "$extras" ;; esac
}

"""Limits for untrusted input, in one place: nothing read from an ISO, a bundle or an RPM is allowed more than this.

They are far above what real Nodes and plugins need and far below what would hurt the machine.
"""

from __future__ import annotations

from typing import NamedTuple

KiB = 1024
MiB = 1024 * KiB
GiB = 1024 * MiB


class Limits(NamedTuple):
    """Upper bounds; sizes in bytes, the rest are counts."""

    # ISO 9660
    iso_directory: int = 32 * MiB
    iso_records: int = 1_000_000
    iso_depth: int = 64
    iso_path_table: int = 16 * MiB
    # squashfs, ext and erofs
    squashfs_inodes: int = 4_000_000
    squashfs_table: int = 512 * MiB
    squashfs_directory: int = 64 * MiB
    squashfs_depth: int = 256
    ext_directory: int = 256 * MiB
    ext_inodes: int = 8_000_000
    ext_depth: int = 256
    erofs_inodes: int = 8_000_000
    erofs_directory: int = 64 * MiB
    erofs_depth: int = 256
    content: int = 16 * GiB  # of a file in a root image that is hashed; half a minute
    changed_blocks: int = 1 * GiB  # as they are stored, of a root image that is compared with the vendor's
    small_file: int = 16 * MiB  # files that are read whole: configurations, version files, modules indexes
    boot_configuration: int = 1 * MiB
    kernel_module: int = 256 * MiB  # unpacked
    # an initrd, unpacked
    initrd: int = 2 * GiB
    initrd_members: int = 500_000
    # OpenPGP and checksum files
    signature: int = 1 * MiB
    checksum_file: int = 1 * MiB
    key_file: int = 4 * MiB
    # bundles and RPMs
    manifest: int = 4 * MiB
    bundle: int = 8 * GiB
    bundle_members: int = 1_000
    rpm: int = 4 * GiB
    rpm_signature_header: int = 64 * MiB
    rpm_header: int = 256 * MiB
    rpm_header_entries: int = 0xFFFF
    rpm_files: int = 500_000
    rpm_database: int = 1 * GiB
    # SELinux file contexts: entries, bytes and parts of one pattern, steps of one look-up
    selinux_contexts: int = 50_000
    selinux_pattern: int = 2048
    selinux_states: int = 8192
    selinux_steps: int = 2_000_000
    # what a provenance statement or a signature slot may be
    statement: int = 16 * MiB
    # the first line of a restore map; the packed originals behind it are read in a stream
    restore_map: int = 64 * MiB
    evidence: int = 512 * MiB


LIMITS = Limits()

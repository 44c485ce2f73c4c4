/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef EXNIC_H
#define EXNIC_H

#define EXNIC_VERSION "1.2"

/* The character device /dev/exnic. */
int exnic_device_register(unsigned int queues);
void exnic_device_unregister(void);

#endif

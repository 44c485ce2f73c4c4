// SPDX-License-Identifier: GPL-2.0-only
/*
 * An example of an out-of-tree driver: it does nothing with hardware, but everything else that a driver has to do with
 * its Node. It is loaded where QEMU's teaching device is (-device edu), also in early boot.
 */
#include <linux/init.h>
#include <linux/module.h>
#include <linux/pci.h>

#include "exnic.h"

static unsigned int queues = 1;
module_param(queues, uint, 0444);
MODULE_PARM_DESC(queues, "number of queues");

static const struct pci_device_id exnic_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },
	{ }
};
MODULE_DEVICE_TABLE(pci, exnic_ids);

static int __init exnic_init(void)
{
	int error = exnic_device_register(queues);

	if (error)
		return error;
	/* Loud enough for the console of a kernel booted with "quiet". */
	pr_alert("exnic: example driver %s loaded, %u queues\n", EXNIC_VERSION, queues);
	return 0;
}

static void __exit exnic_exit(void)
{
	exnic_device_unregister();
}

module_init(exnic_init);
module_exit(exnic_exit);
MODULE_LICENSE("GPL");
MODULE_VERSION(EXNIC_VERSION);
MODULE_DESCRIPTION("Example driver");

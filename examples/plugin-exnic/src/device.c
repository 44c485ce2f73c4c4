// SPDX-License-Identifier: GPL-2.0-only
/* /dev/exnic: reading it says which driver is loaded and with how many queues. */
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/miscdevice.h>
#include <linux/module.h>

#include "exnic.h"

static char status[64];
static size_t status_length;

static ssize_t exnic_read(struct file *file, char __user *buffer, size_t count, loff_t *position)
{
	return simple_read_from_buffer(buffer, count, position, status, status_length);
}

static const struct file_operations exnic_operations = {
	.owner = THIS_MODULE,
	.read = exnic_read,
	.llseek = default_llseek,
};

static struct miscdevice exnic_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "exnic",
	.fops = &exnic_operations,
	.mode = 0444,
};

int exnic_device_register(unsigned int queues)
{
	status_length = scnprintf(status, sizeof(status), "exnic %s, %u queues\n", EXNIC_VERSION, queues);
	return misc_register(&exnic_device);
}

void exnic_device_unregister(void)
{
	misc_deregister(&exnic_device);
}

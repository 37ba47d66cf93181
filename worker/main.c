/* SPDX-License-Identifier: MIT */
#include "worker/worker.h"

int
main(int argc, char **argv)
{
	return worker_run(argc, argv);
}

# SPDX-FileCopyrightText: The dpopt authors
# SPDX-License-Identifier: Apache-2.0
"""Draws the progress of a training run with tqdm.

Reads JSON lines: first {"total": steps}, then {"done": steps, "epoch": text, "note": text}, and ends with its input.
With --check, only tells by its exit code whether it could run.
"""

import json
import signal
import sys

from tqdm import tqdm


def main() -> None:
    if "--check" in sys.argv:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end of the input is the signal to stop
    bar = None
    for line in sys.stdin:
        event = json.loads(line)
        if "total" in event:
            bar = tqdm(
                total=event["total"],
                file=sys.stdout,
                dynamic_ncols=True,
                bar_format="{desc} |{bar}| [{remaining} left{postfix}]",
            )
        elif bar is not None:
            bar.set_description_str(event["epoch"], refresh=False)
            bar.postfix = event["note"]
            bar.update(event["done"] - bar.n)
    if bar is not None:
        bar.refresh()
        bar.close()


if __name__ == "__main__":
    main()

"""Workers that read together, each a thread of this process; what each tells goes to all."""

import threading

from tfvae.datasets.workers import Workers


def together(count, job):
    """Run ``job(workers)`` for each of so many workers; give what each returned or raised."""
    barrier = threading.Barrier(count)
    told, found = [b""] * count, [None] * count

    def run(index):
        def gather(data):
            told[index] = data
            barrier.wait(60)
            heard = list(told)
            barrier.wait(60)
            return heard

        try:
            found[index] = job(Workers(index, count, gather))
        except Exception as error:
            found[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def seen_by(workers, folder, count):
    """Make the folder that a worker sees: all names, and the content of its own files alone."""
    paths = sorted(folder.iterdir())
    own = folder.parent / f"{folder.name}-{workers.index}-of-{count}"
    own.mkdir()
    for place, path in enumerate(paths):
        content = path.read_bytes() if place % count == workers.index else b""
        (own / path.name).write_bytes(content)
    return own

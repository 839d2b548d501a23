import time

from tfvae.training.progress import ProgressBar


def test_a_training_that_goes_on_shows_its_own_speed(capsys):
    bar = ProgressBar()
    bar.set_params({"steps": 100, "epochs": 100})
    bar.on_train_begin()
    bar.go_on(5000, 0)
    bar.on_epoch_begin(50)
    for step in range(10):
        time.sleep(0.02)  # so that no more than 50 steps fit in a second
        bar.on_train_batch_end(step, {})
    bar.close()
    shown = capsys.readouterr().err
    assert "5010/10000" in shown
    assert float(shown.rpartition("step/s")[0].rpartition(" ")[2]) <= 50

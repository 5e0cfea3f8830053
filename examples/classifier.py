"""A classifier in plain PyTorch as a task of lvjobs: preempted, killed and resumed, it ends the same."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import lvjobs


@lvjobs.task
def train(run: lvjobs.Run) -> None:
    """Learn to tell two spirals apart."""
    generator = torch.Generator().manual_seed(0)
    angle = torch.rand(600, generator=generator) * 9
    spiral = torch.stack([angle * angle.cos(), angle * angle.sin()], 1) / 9
    points, labels = torch.cat([spiral, -spiral]), torch.arange(1200) // 600
    order = torch.randperm(1200, generator=generator)
    train, test = order[:1000], order[1000:]

    width, rate = run.config.params["hidden"], run.config.params["learning_rate"]
    model = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 2 * width), nn.ReLU())
    model.append(nn.Linear(2 * width, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    if resumed := run.resume():
        model.load_state_dict(resumed.state["model"])
        optimizer.load_state_dict(resumed.state["optimizer"])

    for step in range(run.step + 1, run.config.steps + 1):
        batch = train[torch.randint(len(train), (64,))]
        loss = cross_entropy(model(points[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(step, loss=loss)
        if run.due(step):
            with torch.no_grad():
                scores = model.eval()(points[test])
                model.train()
            wrong = (scores.argmax(1) != labels[test]).float().mean()
            run.validated(step, loss=cross_entropy(scores, labels[test]), error=wrong)
        stop = run.should_stop()
        if stop or run.due(step):
            run.checkpoint(step, {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
        if stop:
            return

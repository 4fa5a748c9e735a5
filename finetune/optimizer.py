"""SGD with momentum and AdamW for a fleet: every member with its own rate, clipping and fate.

All parameters of a fleet are laid out in one [member, parameter] buffer and their gradients are
joined to another, so a step is a handful of operations whatever the number of tensors. The arithmetic is
that of ``torch.optim.SGD``, ``torch.optim.AdamW`` and ``clip_grad_norm_``, per member.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from veneer.finetune.recipe import Recipe


class FleetOptimizer:
    """Optimizer over a module whose parameters all have a leading member axis.

    Takes over the storage of the module's trained parameters.

    Args:
        model: the fleet.
        recipe: the stage's recipe; its ``learning_rate`` is replaced by ``rates``.
        rates: maximal learning rate of each member.
        decayed: names of parameters that weight decay applies to.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, rates: list[float], decayed: set[str]) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        members = named[0][1].shape[0]
        total = sum(p[0].numel() for _, p in named)
        first = named[0][1]
        self.recipe = recipe
        self.value = torch.empty(members, total, dtype=first.dtype, device=first.device)
        self.parameters = [p for _, p in named]
        self._decay = torch.zeros(total, dtype=first.dtype, device=first.device)
        offset = 0
        for name, parameter in named:
            size = parameter[0].numel()
            part = slice(offset, offset + size)
            self.value[:, part] = parameter.detach().reshape(members, size)
            parameter.data = self.value[:, part].view(parameter.shape)
            self._decay[part] = recipe.weight_decay if name in decayed else 0.0
            offset += size
        moments = 1 if recipe.optimizer == "sgd" else 2
        self.moments = [torch.zeros_like(self.value) for _ in range(moments)]
        self.rates = torch.tensor(rates, dtype=torch.float64, device=first.device).unsqueeze(1)

    def step(
        self,
        loss: Float[Tensor, "member"],
        step: int,
        finite: Bool[Tensor, "member"],
        gradient: Float[Tensor, "member parameter"] | None = None,
    ) -> Bool[Tensor, "member"]:
        """One update of every member down its own loss.

        Args:
            loss: each member's loss, of its own parameters only.
            step: number of updates before this one.
            finite: members still alive; the others' parameters are left alone.
            gradient: of the losses, where it is known already; used up.

        Returns:
            Members alive after this step: those whose loss, gradient and changed parameters are
            finite too.
        """
        if gradient is None:
            gradient = self._gradient(loss)
        return self.update(loss, self.rates * self.recipe.rate_factor(step), finite, gradient, step)

    def update(
        self,
        loss: Float[Tensor, "member"],
        rates: Float[Tensor, "member 1"],
        finite: Bool[Tensor, "member"],
        gradient: Float[Tensor, "member parameter"],
        step: int = 0,
    ) -> Bool[Tensor, "member"]:
        """The same with the gradient known (used up), and with the rates of this update.

        SGD asks for no ``step``: with it, all that changes from one update to the next is on the device.
        """
        norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
        alive = finite & loss.detach().isfinite() & norm.squeeze(1).isfinite()
        if self.recipe.clip is not None:
            gradient.mul_((self.recipe.clip / (norm + 1e-6)).clamp_max(1.0))
        rate = rates.to(self.value.dtype)
        change = (
            self._sgd(gradient, rate) if self.recipe.optimizer == "sgd" else self._adamw(gradient, rate, step)
        )
        changed = self.value - change
        alive &= changed.sum(1).isfinite()
        torch.where(alive.unsqueeze(1), changed, self.value, out=self.value)
        return alive

    def _gradient(self, loss: Float[Tensor, "member"]) -> Float[Tensor, "member parameter"]:
        gradients = torch.autograd.grad(loss.sum(), self.parameters, materialize_grads=True)
        return torch.cat([g.reshape(len(g), -1) for g in gradients], dim=1)

    def _sgd(
        self, gradient: Float[Tensor, "member parameter"], rate: Float[Tensor, "member 1"]
    ) -> Float[Tensor, "member parameter"]:
        (momentum,) = self.moments
        momentum.mul_(self.recipe.momentum).add_(gradient)
        return momentum * rate

    def _adamw(
        self, gradient: Float[Tensor, "member parameter"], rate: Float[Tensor, "member 1"], step: int
    ) -> Float[Tensor, "member parameter"]:
        first, second = self.moments
        beta_1, beta_2 = self.recipe.betas
        first.lerp_(gradient, 1 - beta_1)
        second.mul_(beta_2).addcmul_(gradient, gradient, value=1 - beta_2)
        correction_1, correction_2 = 1 - beta_1 ** (step + 1), 1 - beta_2 ** (step + 1)
        denominator = (second.sqrt() / math.sqrt(correction_2)).add_(self.recipe.epsilon)
        decay = self.value * self._decay
        return (first / denominator / correction_1).add_(decay).mul_(rate)

    def state(self) -> dict[str, Tensor]:
        """What must be kept to go on exactly: parameters and moments."""
        return {"value": self.value, **{f"moment_{i}": m for i, m in enumerate(self.moments)}}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Put back what ``state`` gave."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])

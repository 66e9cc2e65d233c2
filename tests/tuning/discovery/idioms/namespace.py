from types import SimpleNamespace
import narf
args = SimpleNamespace(lr=3e-4, gamma=0.99, hidden=64, seed=0, env_name="CartPole")
narf.log(episode_return=args.lr)

import django.db.models.functions
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """A column that the database fills, and an index outside of a transaction."""

    atomic = False
    dependencies = [("shop", "0003_change")]
    operations = [
        migrations.AddField("Customer", "since", models.DateTimeField(db_default=django.db.models.functions.Now())),
        AddIndexConcurrently(
            "Customer",
            models.Index(fields=["-since"], name="customer_since", condition=models.Q(score__gt=0)),
        ),
    ]
